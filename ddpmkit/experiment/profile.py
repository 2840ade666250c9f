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
from ddpmkit.experiment.step_work import ByteCounter, Kernels, count_kernels
from ddpmkit.recipe import Recipe
from ddpmkit.runtime import Runtime
from ddpmkit.training.trainer import Trainer

__all__ = ["Profile", "profile"]

_STEPS_OF_KERNELS = 5


@dataclass(frozen=True)
class Profile:
    """The time of a median training step, and the work that the step does."""

    device: str
    parameters: int
    batch_size: int
    seconds: float
    """Duration of the step, as a run takes it."""
    phases: Mapping[str, float]
    """Seconds by phase, in the order of first use, of a step that waits for the device after each phase."""
    phased_seconds: float
    """Duration of that step. On the CPU it is the same step."""
    flops: int
    """FLOP of one step, forward and backward: matrix products and convolutions, as torch counts them."""
    bytes_moved: int
    """Bytes that the operators of one step read and write, by `ByteCounter`. A compiled network moves fewer."""
    peak_memory: int | None
    matmul_rate: float
    """FLOP/s of a large matrix product on this device, in the same precision."""
    copy_rate: float
    """Bytes/s, read and written, of a large copy on this device."""
    kernels: Kernels | None = None
    """Work of one step on a CUDA device; None on other devices."""

    @property
    def share_of_matmul_rate(self) -> float:
        """FLOP/s of the step divided by the FLOP/s of a large matrix product."""
        return self.flops / self.seconds / self.matmul_rate

    @property
    def share_of_copy_rate(self) -> float:
        """Bytes/s of the step divided by the bytes/s of a large copy. Above 1 if caches serve many reads."""
        return self.bytes_moved / self.seconds / self.copy_rate

    @property
    def idle_share(self) -> float | None:
        """Share of the step in which the device runs no kernel; None if there is no count of kernels."""
        return None if self.kernels is None else max(0.0, 1 - self.kernels.seconds / self.seconds)


def profile(recipe: Recipe, steps: int = 20, progress: Callable[[int], None] = lambda _more: None) -> Profile:
    """Time `steps` training steps of a recipe, after warm-up steps. Nothing is written.

    `progress` is called with 1 after each step.
    """
    model = build_model(recipe)
    images = build_images(recipe, "train", model.guard)
    runtime = model.runtime
    trainer = Trainer(model.network, model.objective(), images, recipe.train)
    with explain_failures("training to profile it", recipe), runtime.settings():
        # The first step runs operator by operator; a later one may replay a graph, which hides its operators.
        flops, moved = FlopCounterMode(display=False), ByteCounter()
        with moved, flops:
            trainer.train_step()
        trainer.train_step()
        watch = _Stopwatch(runtime)
        trainer.phase = watch.phase
        phased, phases = _median_step(trainer, runtime, watch, steps, progress)
        seconds, kernels = phased, None
        if runtime.device.type == "cuda":
            # The host prepares kernels while the device computes, unless it waits after each phase.
            trainer.phase = contextlib.nullcontext
            for _ in range(_STEPS_OF_KERNELS):
                trainer.train_step()
            seconds, _ = _median_step(trainer, runtime, watch, steps)
            kernels = count_kernels(trainer.train_step, _STEPS_OF_KERNELS)
        peak_memory = runtime.peak_memory()
        matmul_rate, copy_rate = runtime.matmul_rate(), runtime.copy_rate()
    return Profile(
        device=str(runtime.device),
        parameters=model.parameters,
        batch_size=recipe.train.batch_size,
        seconds=seconds,
        phases=phases,
        phased_seconds=phased,
        flops=flops.get_total_flops(),
        bytes_moved=moved.total,
        peak_memory=peak_memory,
        matmul_rate=matmul_rate,
        copy_rate=copy_rate,
        kernels=kernels,
    )


def _median_step(
    trainer: Trainer,
    runtime: Runtime,
    watch: "_Stopwatch",
    steps: int,
    progress: Callable[[int], None] = lambda _more: None,
) -> tuple[float, dict[str, float]]:
    """Return the seconds of the median of `steps` steps, and its seconds by phase."""
    durations, phases = [], []
    for _ in range(steps):
        runtime.synchronize()
        started = time.perf_counter()
        trainer.train_step()
        runtime.synchronize()
        durations.append(time.perf_counter() - started)
        phases.append(watch.lap())
        progress(1)
    median = durations.index(statistics.median_low(durations))
    return durations[median], phases[median]


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
