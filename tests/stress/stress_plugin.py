"""A plugin with a loss that causes a rollback, and a metric that ranks checkpoints."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class UnluckyConfig(ComponentConfig):
    """Keys of `[loss]` when `use = "local/unlucky"`."""

    above: float = 100.0
    """The loss is NaN for a batch whose first target value is above this."""


class Unlucky:
    """Mean squared error, but NaN for some batches. It depends on the batch alone, so a resume gets the same NaN."""

    def __init__(self, config: UnluckyConfig, *, prediction: str) -> None:
        self.above = config.above

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        loss = (prediction - target).square().flatten(1).mean(1)
        return loss * torch.nan if target.flatten()[0] > self.above else loss


class Brightness:
    """Difference between the mean grey levels of generated and real images."""

    better: Mapping[str, Better] = {"brightness": "lower"}

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        self.protocol = MetricProtocol(name="mean", comparable=True, num_samples=4, weights="ema", facts={})

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {"sum": images.double().mean((1, 2, 3)).sum(), "count": torch.tensor(float(len(images))).double()}

    measure_generated = measure_real

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        means = [float(state["sum"] / state["count"]) for state in (real, generated)]
        return {"brightness": abs(means[0] - means[1])}


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    here = __name__
    yield Component(
        kind="loss", name="unlucky", target=f"{here}:Unlucky", config=f"{here}:UnluckyConfig", summary="NaN"
    )
    yield Component(kind="metric", name="brightness", target=f"{here}:Brightness", summary="mean grey level")
