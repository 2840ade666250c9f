"""The L2 loss: manifest."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, hookimpl


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="l2",
        target="ddpmkit_plugins.l2.loss:L2Loss",
        summary="mean squared error between prediction and target",
    )
