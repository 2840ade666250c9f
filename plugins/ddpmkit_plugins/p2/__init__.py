"""The P2 loss: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class P2Config(ComponentConfig):
    """Keys of `[loss]` when `use = "p2"`."""

    gamma: float = Field(default=1.0, ge=0)
    """How much the weight of timesteps at low noise is reduced; 0 is the unweighted loss of eps."""
    k: float = Field(default=1.0, gt=0)
    """Added to the SNR, so that the weight at high noise stays finite."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """Keys without effect. The weight is (k + SNR)^(-gamma)."""
        if not self.gamma:
            yield "k", "gamma = 0 is the unweighted loss"


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="p2",
        target="ddpmkit_plugins.p2.loss:P2Loss",
        config="ddpmkit_plugins.p2:P2Config",
        summary="squared error, weighted towards the timesteps that determine content (Choi et al. 2022)",
    )
