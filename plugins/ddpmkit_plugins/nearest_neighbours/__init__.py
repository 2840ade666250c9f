"""How near samples come to training images, to see what was learned by heart: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class NearestNeighboursConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "nearest-neighbours"`."""

    size: int = Field(default=32, ge=1, le=64)
    """Larger images are compared at this height and width, averaged over pixels."""
    copy_ratio: float = Field(default=0.5, gt=0, le=1)
    """A sample counts as a copy of a training image when it is nearer to it than this part of the distance from there
    to the next training image."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the metric."""
    yield Component(
        kind="metric",
        name="nearest-neighbours",
        target="ddpmkit_plugins.nearest_neighbours.metric:NearestNeighbours",
        config="ddpmkit_plugins.nearest_neighbours:NearestNeighboursConfig",
        summary="distance from samples to the nearest training images, and the share of copies",
    )
