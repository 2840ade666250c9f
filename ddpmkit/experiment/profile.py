"""Where the time of a training step goes, and how much of the machine it uses.

It does not know what a step consists of beyond the names that the trainer gives.
"""

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch.utils.flop_counter import FlopCounterMode

from ddpmkit.experiment.build import build_images, build_model
from ddpmkit.experiment.failures import explaining
from ddpmkit.recipe import Recipe
from ddpmkit.runtime import Runtime
from ddpmkit.training.trainer import Trainer

__all__ = ["Profile", "profile"]


@dataclass(frozen=True)
class Profile:
    """The median step of several."""

    device: str
    parameters: int
    batch_size: int
    seconds: float
    """Of the whole step."""
    phases: Mapping[str, float]
    """Seconds of that same step by phase, in the order of first use."""
    flops: int
    """Of a step, forward and backward: products and convolutions, as torch counts them."""
    peak_memory: int | None
    matmul_rate: float
    """FLOP/s of a large matrix product on this device, in the same number format."""

    @property
    def share_of_matmul_rate(self) -> float:
        """1: every moment of a step is as productive as a large matrix product."""
        return self.flops / self.seconds / self.matmul_rate


def profile(recipe: Recipe, steps: int = 20, progress: Callable[[int], None] = lambda _more: None) -> Profile:
    """Take `steps` training steps of a recipe, after two to warm up, and time them. Nothing is written.

    `progress` is told of each step: 1 more.
    """
    model = build_model(recipe)
    images = build_images(recipe, "train", model.around)
    trainer = Trainer(model.network, model.objective(), images, recipe.train)
    watch = _Stopwatch(model.runtime)
    whole, phases = [], []
    with explaining("training to profile it", recipe), model.runtime.deterministic():
        trainer.train_step()
        with FlopCounterMode(display=False) as counter:
            trainer.train_step()
        trainer.phase = watch.phase
        for _ in range(steps):
            began = time.perf_counter()
            trainer.train_step()
            model.runtime.synchronize()
            whole.append(time.perf_counter() - began)
            phases.append(watch.lap())
            progress(1)
    median = whole.index(statistics.median_low(whole))
    return Profile(
        device=str(model.runtime.device),
        parameters=model.parameters,
        batch_size=recipe.train.batch_size,
        seconds=whole[median],
        phases=phases[median],
        flops=counter.get_total_flops(),
        peak_memory=model.runtime.peak_memory(),
        matmul_rate=model.runtime.matmul_rate(),
    )


class _Stopwatch:
    """Seconds by phase, lap by lap; a phase that is entered several times in a lap is summed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._now: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._runtime.synchronize()
        began = time.perf_counter()
        yield
        self._runtime.synchronize()
        self._now[name] += time.perf_counter() - began

    def lap(self) -> dict[str, float]:
        lap = dict(self._now)
        self._now.clear()
        return lap
