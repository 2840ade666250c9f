"""The Fréchet inception distance by clean-fid's rules: manifest and config."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class CleanFidConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "clean-fid"`."""

    protocol: Literal["standard", "original"] = "standard"
    """`standard`: 10,000 samples of the averaged weights against the training images, comparable between runs.
    `original`: 512 samples of the raw weights against the training images re-encoded as JPEG, comparable with nothing
    else."""
    inception: str = ""
    """File with the Inception network; when empty, `DDPMKIT_INCEPTION`, then the cache folder, then a download."""
    batch_size: int = Field(default=32, ge=1)
    """Images that the Inception network sees at once; the score does not depend on it."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the metric."""
    yield Component(
        kind="metric",
        name="clean-fid",
        target="ddpmkit_plugins.clean_fid.metric:CleanFid",
        config="ddpmkit_plugins.clean_fid:CleanFidConfig",
        summary="Fréchet inception distance with clean-fid's resize and network (Parmar et al. 2022)",
        requires=("cleanfid",),
    )


@hookimpl
def ddpmkit_diagnoses() -> Iterator[str]:
    """The network's file, and the package that clean-fid brings beside torch."""
    yield "ddpmkit_plugins.clean_fid.diagnosis:inception_file"
    yield "ddpmkit_plugins.clean_fid.diagnosis:torchvision_package"
