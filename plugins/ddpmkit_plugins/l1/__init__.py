"""The L1 loss: manifest."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, hookimpl


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="l1",
        target="ddpmkit_plugins.l1.loss:L1Loss",
        summary="mean absolute error between prediction and target",
    )
