"""TensorBoard: manifest."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, hookimpl


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the tracker."""
    yield Component(
        kind="tracker",
        name="tensorboard",
        target="ddpmkit_plugins.tensorboard_tracker.tracker:TensorboardTracker",
        summary="losses, scores, images and the recipe for TensorBoard, in `tensorboard/` of the run folder",
        requires=("tensorboard",),
    )
