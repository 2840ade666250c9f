"""Metrics in Inception features, computed as in clean-fid: manifest and configs."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, RunsCode, hookimpl


class InceptionConfig(ComponentConfig):
    """Keys that all of these metrics share."""

    # The digest of the file is one of the facts.
    without_effect: ClassVar = frozenset({"inception", "batch_size"})

    inception: Annotated[str, RunsCode("a TorchScript file that is run")] = ""
    """Path of the Inception network. If empty: the path in the environment variable `DDPMKIT_INCEPTION`, or the file in
    the cache folder, which is downloaded once."""
    batch_size: int = Field(default=32, ge=1)
    """Batch size of the Inception network. The score does not depend on it."""


class CleanFidConfig(InceptionConfig):
    """Keys of `[[metric]]` when `use = "clean-fid"`."""

    protocol: Literal["standard", "original"] = "standard"
    """`standard`: 10,000 samples of the EMA weights against the training images; comparable between runs. `original`:
    512 samples of the raw weights against the training images re-encoded as JPEG, as in the research code on which
    ddpmkit is based; not comparable with other scores."""


class CleanKidConfig(InceptionConfig):
    """Keys of `[[metric]]` when `use = "clean-kid"`."""


class PrecisionRecallConfig(InceptionConfig):
    """Keys of `[[metric]]` when `use = "precision-recall"`."""

    neighbours: int = Field(default=3, ge=1)
    """k: the radius of the ball around each image is the distance to its k-th nearest neighbour."""


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
            "share of realistic samples, and share of the data that samples cover (Kynkäänniemi et al. 2019)",
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
    """The file of the network, and the torchvision package that clean-fid depends on."""
    yield "ddpmkit_plugins.clean_fid.diagnosis:inception_file"
    yield "ddpmkit_plugins.clean_fid.diagnosis:torchvision_package"
