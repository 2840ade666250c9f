"""Measures where the time of a training step goes, and how much of the machine it uses."""

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch.utils.flop_counter import FlopCounterMode

from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.failures import explain_failures
from ddpmkit.experiment.model import build_model
from ddpmkit.recipe import Recipe
from ddpmkit.runtime import Runtime
from ddpmkit.training.trainer import Trainer

__all__ = ["Profile", "profile"]


@dataclass(frozen=True)
class Profile:
    """The time of a median training step, and the work that the step does."""

    device: str
    parameters: int
    batch_size: int
    seconds: float
    """Duration of the step."""
    phases: Mapping[str, float]
    """Seconds by phase of the same step, in the order of first use."""
    flops: int
    """FLOP of one step, forward and backward: matrix products and convolutions, as torch counts them."""
    peak_memory: int | None
    matmul_rate: float
    """FLOP/s of a large matrix product on this device, in the same precision."""

    @property
    def share_of_matmul_rate(self) -> float:
        """FLOP/s of the step divided by the FLOP/s of a large matrix product."""
        return self.flops / self.seconds / self.matmul_rate


def profile(recipe: Recipe, steps: int = 20, progress: Callable[[int], None] = lambda _more: None) -> Profile:
    """Time `steps` training steps of a recipe, after two warm-up steps. Nothing is written.

    `progress` is called with 1 after each step.
    """
    model = build_model(recipe)
    images = build_images(recipe, "train", model.guard)
    trainer = Trainer(model.network, model.objective(), images, recipe.train)
    watch = _Stopwatch(model.runtime)
    durations, phases = [], []
    with explain_failures("training to profile it", recipe), model.runtime.deterministic():
        trainer.train_step()
        with FlopCounterMode(display=False) as counter:
            trainer.train_step()
        trainer.phase = watch.phase
        for _ in range(steps):
            started = time.perf_counter()
            trainer.train_step()
            model.runtime.synchronize()
            durations.append(time.perf_counter() - started)
            phases.append(watch.lap())
            progress(1)
    median = durations.index(statistics.median_low(durations))
    return Profile(
        device=str(model.runtime.device),
        parameters=model.parameters,
        batch_size=recipe.train.batch_size,
        seconds=durations[median],
        phases=phases[median],
        flops=counter.get_total_flops(),
        peak_memory=model.runtime.peak_memory(),
        matmul_rate=model.runtime.matmul_rate(),
    )


class _Stopwatch:
    """Seconds by phase in each lap; a phase that is entered several times is summed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lap: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._runtime.synchronize()
        started = time.perf_counter()
        yield
        self._runtime.synchronize()
        self._lap[name] += time.perf_counter() - started

    def lap(self) -> dict[str, float]:
        lap = dict(self._lap)
        self._lap.clear()
        return lap
