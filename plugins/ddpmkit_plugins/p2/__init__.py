"""The P2 loss: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class P2Config(ComponentConfig):
    """Keys of `[loss]` when `use = "p2"`."""

    gamma: float = Field(default=1.0, ge=0)
    """How strongly nearly clean timesteps are played down; 0 is the plain loss."""
    k: float = Field(default=1.0, gt=0)
    """Keeps the weight of very noisy timesteps finite."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """The weight is (k + SNR) to the power of -gamma."""
        if not self.gamma:
            yield "k", "gamma = 0 is the plain loss"


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="p2",
        target="ddpmkit_plugins.p2.loss:P2Loss",
        config="ddpmkit_plugins.p2:P2Config",
        summary="squared error, weighted towards the timesteps where content is decided (Choi et al. 2022)",
    )
