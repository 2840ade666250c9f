"""How near samples come to training images, to see what was memorized: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class NearestNeighboursConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "nearest-neighbours"`."""

    size: int = Field(default=32, ge=1, le=64)
    """Larger images are compared at this height and width, averaged over pixels."""
    copy_ratio: float = Field(default=0.5, gt=0, le=1)
    """A sample counts as a copy of a training image if it is nearer to it than this part of the distance from there to
    the next training image that is another one."""
    duplicate_distance: float = Field(default=8.0, ge=0.01)
    """Training images that differ by no more than this are one image: kept twice, or encoded or resized anew. Root mean
    square over pixels, in grey levels of 0 .. 255."""
    mirrored: bool = True
    """Compare with the mirror image of each training image too, as `data.flip` trains on both."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the metric."""
    yield Component(
        kind="metric",
        name="nearest-neighbours",
        target="ddpmkit_plugins.nearest_neighbours.metric:NearestNeighbours",
        config="ddpmkit_plugins.nearest_neighbours:NearestNeighboursConfig",
        summary="distance from samples to the nearest training images, and the share of copies",
        provides=("unranked-score:distance", "unranked-score:copies"),
    )
