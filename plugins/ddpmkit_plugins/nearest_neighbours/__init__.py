"""The distance from samples to training images, to detect memorization: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class NearestNeighboursConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "nearest-neighbours"`."""

    size: int = Field(default=32, ge=1, le=64)
    """Larger images are reduced to this height and width before they are compared."""
    copy_ratio: float = Field(default=0.5, gt=0, le=1)
    """A sample counts as a copy of its nearest training image if their distance is less than this fraction of the
    distance from that training image to the nearest different training image."""
    duplicate_distance: float = Field(default=8.0, ge=0.01)
    """Training images whose distance is at most this count as the same image (stored twice, re-encoded or resized).
    The distance is the root mean square over pixels, in grey levels of 0 .. 255."""
    mirrored: bool = True
    """Also compare with the mirror image of each training image, because `data.flip` trains on it too."""


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
