"""Cartoon animal faces drawn by code: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class CrittersConfig(ComponentConfig):
    """Keys of `[data]` when `use = "critters"`."""

    size: int = Field(default=1500, ge=1)
    """Training pictures of each class."""
    val_size: int = Field(default=100, ge=0)
    """Held-out pictures of each class."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the drawings: another seed gives other animals."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the dataset."""
    yield Component(
        kind="dataset",
        name="critters",
        target="ddpmkit_plugins.critters.dataset:CrittersDataset",
        config="ddpmkit_plugins.critters:CrittersConfig",
        summary="cartoon faces of cats, dogs and wild cats, drawn by code: nothing to download",
    )
