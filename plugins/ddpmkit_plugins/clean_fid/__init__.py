"""Scores in the features of Inception, had by clean-fid's rules: manifest and configs."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, RunsCode, hookimpl


class InceptionConfig(ComponentConfig):
    """What all of these metrics ask."""

    # The digest of the file is among the facts.
    without_effect: ClassVar = frozenset({"inception", "batch_size"})

    inception: Annotated[str, RunsCode("a TorchScript file that is run")] = ""
    """File with the Inception network; when empty, `DDPMKIT_INCEPTION`, then the cache folder, then a download."""
    batch_size: int = Field(default=32, ge=1)
    """Images that the Inception network sees at once; the score does not depend on it."""


class CleanFidConfig(InceptionConfig):
    """Keys of `[[metric]]` when `use = "clean-fid"`."""

    protocol: Literal["standard", "original"] = "standard"
    """`standard`: 10,000 samples of the averaged weights against the training images, comparable between runs.
    `original`: 512 samples of the raw weights against the training images re-encoded as JPEG, comparable with nothing
    else."""


class CleanKidConfig(InceptionConfig):
    """Keys of `[[metric]]` when `use = "clean-kid"`."""


class PrecisionRecallConfig(InceptionConfig):
    """Keys of `[[metric]]` when `use = "precision-recall"`."""

    neighbours: int = Field(default=3, ge=1)
    """The ball around an image reaches to its neighbour of this rank."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the metrics."""
    for name, target, config, scores, summary in (
        (
            "clean-fid",
            "metric:CleanFid",
            "CleanFidConfig",
            ("score:fid",),
            "Fréchet inception distance with clean-fid's resize and network (Parmar et al. 2022)",
        ),
        (
            "clean-kid",
            "kernel:CleanKid",
            "CleanKidConfig",
            ("score:kid",),
            "kernel inception distance, unbiased at any number of samples (Bińkowski et al. 2018)",
        ),
        (
            "precision-recall",
            "precision_recall:PrecisionRecall",
            "PrecisionRecallConfig",
            ("score:precision", "score:recall"),
            "share of good samples, and of the data that is covered (Kynkäänniemi et al. 2019)",
        ),
    ):
        yield Component(
            kind="metric",
            name=name,
            target=f"ddpmkit_plugins.clean_fid.{target}",
            config=f"ddpmkit_plugins.clean_fid:{config}",
            summary=summary,
            requires=("cleanfid",),
            provides=scores,
        )


@hookimpl
def ddpmkit_diagnoses() -> Iterator[str]:
    """The network's file, and the package that clean-fid brings beside torch."""
    yield "ddpmkit_plugins.clean_fid.diagnosis:inception_file"
    yield "ddpmkit_plugins.clean_fid.diagnosis:torchvision_package"
