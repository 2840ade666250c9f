"""The distance from samples to training images, to detect memorization: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class NearestNeighboursConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "nearest-neighbours"`."""

    size: int = Field(default=32, ge=1, le=64)
    """Larger images are averaged down to this height and width before they are compared."""
    copy_ratio: float = Field(default=0.5, gt=0, le=1)
    """A sample is a copy of a training image if its distance to it is less than this share of the distance between that
    training image and the nearest different one."""
    duplicate_distance: float = Field(default=8.0, ge=0.01)
    """Training images that differ by at most this are duplicates: stored twice, re-encoded or resized. Root mean square
    over pixels, in grey levels of 0 .. 255."""
    mirrored: bool = True
    """Also compare with the mirror image of each training image, because `data.flip` trains on both."""


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
