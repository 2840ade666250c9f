"""From a recipe to working parts: the one place where components meet.

It does not know in what order they are used.
"""

import contextlib
import functools
import operator
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ddpmkit.contracts import Better, Dataset, Loss, Metric, MetricProtocol, Sampler, Schedule
from ddpmkit.data.images import ImageSource
from ddpmkit.diffusion import GaussianDiffusion, check_alphas_cumprod, with_zero_terminal_snr
from ddpmkit.errors import ComponentUnavailable, ContractError, InputError, PluginError, RunFailed, error_text
from ddpmkit.experiment.collected_errors import Gathering
from ddpmkit.experiment.failures import explaining
from ddpmkit.global_state import Around, StateKeeper
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.randomness import Purpose, stream
from ddpmkit.recipe import MetricSection, Part, Recipe, evaluation_keys, toml_value
from ddpmkit.run_folder import RunFolder
from ddpmkit.runtime import Runtime, choose_runtime, keep_freed_memory, seeded_build
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.score_log import distinct_names
from ddpmkit.tracking import TrackerThread
from ddpmkit.training.objective import Objective
from ddpmkit.training.state import first_not_finite

__all__ = [
    "BuiltMetric",
    "Model",
    "build_images",
    "build_metrics",
    "build_model",
    "build_trackers",
    "check_keep_best",
    "metric_names",
]


@dataclass(frozen=True)
class Model:
    """The process, the network and the device they are on."""

    recipe: Recipe
    runtime: Runtime
    process: GaussianDiffusion
    network: nn.Module = field(repr=False)
    around: Around = contextlib.nullcontext
    """Entered around each call of a component with its kind: it puts back what of torch's settings the call changed."""

    def objective(self) -> Objective:
        """What the recipe trains for."""
        diffusion = self.recipe.diffusion
        with self.around("loss"):
            loss: Loss = self.recipe.loss.build(prediction=diffusion.prediction)
        return Objective(
            self.process,
            loss,
            self.runtime,
            offset_noise=diffusion.offset_noise,
            num_classes=self.recipe.data.settings.num_classes,
            label_dropout=self.recipe.train.label_dropout,
            around=self.around,
        )

    def generator(self, network: nn.Module, sampler: Sampler | None = None, steps: int | None = None) -> ImageGenerator:
        """Generate images from `network` with the recipe's sampler and number of steps, or with others.

        Raises InputError when `steps` is not in 1 .. T, RunFailed when a weight is not finite.
        """
        if (name := first_not_finite(network.state_dict())) is not None:
            raise RunFailed(
                f"these weights generate no images: tensor {name!r} holds values that are not finite (NaN or inf).",
                remedies=["use an earlier checkpoint: give its folder, RUN/checkpoints/step-N, instead of RUN"],
            )
        settings = self.recipe.sampler.settings
        steps = steps or settings.steps or self.process.timesteps
        timesteps = self.process.timesteps
        if not 1 <= steps <= timesteps:
            raise InputError(f"sampler.steps = {steps} is not between 1 and diffusion.timesteps = {timesteps}.")
        return ImageGenerator(
            network=network,
            process=self.process,
            sampler=sampler or self._sampler(),
            image_shape=self.recipe.data.settings.image_shape,
            steps=steps,
            batch_size=settings.batch_size,
            runtime=self.runtime,
            num_classes=self.recipe.data.settings.num_classes,
            guidance=settings.guidance,
            around=self.around,
        )

    def _sampler(self) -> Sampler:
        with self.around("sampler"):
            sampler: Sampler = self.recipe.sampler.build()
        return sampler

    @property
    def parameters(self) -> int:
        """Trainable numbers."""
        return sum(weight.numel() for weight in self.network.parameters())


@dataclass(frozen=True)
class BuiltMetric:
    """A metric and what the recipe says of its use."""

    name: str
    """As a recipe names it; if it names several of one `use`, with the keys in which they differ."""
    part: Part[MetricSection]
    metric: Metric

    @property
    def use(self) -> str:
        """As a recipe names it."""
        return self.part.component.use

    def ranks_by(self, score: str) -> bool:
        """Whether it gives a score of this name, and says which way that improves."""
        return self.metric.better.get(score, "neither") != "neither"

    def weights(self, sampling: str) -> str:
        """Which weights are scored, where `sampling` draw the samples: of several averages the one that is chosen."""
        averaged = self.metric.protocol.weights == "ema" and sampling != "raw"
        return sampling if averaged else self.metric.protocol.weights

    @property
    def num_samples(self) -> int:
        """Generated images: the recipe's number, or the protocol's."""
        return self.part.settings.num_samples or self.metric.protocol.num_samples


def build_model(recipe: Recipe, device: str | None = None) -> Model:
    """The process and a network with the weights that the recipe's seed gives.

    Raises PluginError for a component that fails, or a schedule that is none.
    """
    runtime = choose_runtime(device or recipe.train.device, recipe.train.precision)
    if runtime.device.type == "cpu":
        keep_freed_memory()
    diffusion, data = recipe.diffusion, recipe.data.settings
    around = _around(recipe)
    with around("schedule"):
        alphas_cumprod = _alphas_cumprod(recipe)
    if diffusion.zero_terminal_snr:
        if diffusion.timesteps < 2:
            raise InputError("diffusion.zero_terminal_snr needs diffusion.timesteps of 2 or more.")
        alphas_cumprod = with_zero_terminal_snr(alphas_cumprod)
    if float(alphas_cumprod[-1]) == 0 and diffusion.prediction == "epsilon":
        raise InputError(
            f"schedule {recipe.schedule.component.use!r} ends at alpha_bar = 0, where x0 cannot be recovered from eps.",
            remedies=['diffusion.prediction = "v" or "x0"', "another schedule"],
        )
    process = GaussianDiffusion(alphas_cumprod, diffusion.prediction, self_conditioning=diffusion.self_conditioning).to(
        runtime.device
    )
    learns_variance = "learned-variance" in recipe.loss.component.component.provides
    channels = 2 * data.channels if learns_variance else data.channels
    # The estimate lies behind the image.
    seen = data.image_shape._replace(channels=(2 if diffusion.self_conditioning else 1) * data.channels)
    # torch's generator takes 64 bits of seed; drawn from our own stream, so that it is no other purpose's stream.
    with seeded_build(int(stream(recipe.train.seed, Purpose.INIT).integers(2**63))), around("backbone"):
        network: nn.Module = recipe.backbone.build(
            image_shape=seen, num_classes=data.num_classes, out_channels=channels
        )
    return Model(recipe, runtime, process, network.to(runtime.device), around)


def _around(recipe: Recipe) -> Around:
    """By kind, or by what else names a component."""
    keeper = StateKeeper()
    parts = (recipe.schedule, recipe.backbone, recipe.loss, recipe.sampler, recipe.data)
    names = {part.component.kind: f"{part.component.kind} {part.component.use!r}" for part in parts}
    return lambda who: keeper.around(names.get(who, who))


def _alphas_cumprod(recipe: Recipe) -> Tensor:
    """What the recipe's schedule gives. Whatever is wrong with it is the schedule's doing, and told of it."""
    timesteps, component = recipe.diffusion.timesteps, recipe.schedule.component
    schedule: Schedule = recipe.schedule.build(timesteps=timesteps)
    try:
        alphas_cumprod = schedule.alphas_cumprod()
        check_alphas_cumprod(alphas_cumprod, timesteps)
    except BaseException as error:
        if is_interrupt(error):
            raise
        failed = f"its alphas_cumprod() failed with {error_text(error)}"
        reason = error.message if isinstance(error, InputError) else failed
        raise PluginError(
            f"schedule {component.use!r} ({component.origin}): {reason}",
            remedies=[
                f"{_check_command(recipe)}  says more",
                "use another schedule",
            ],
        ) from error
    return alphas_cumprod


def _check_command(recipe: Recipe) -> str:
    """The command that asks the recipe's schedule what the run asked: with its keys, at its T."""
    component, config = recipe.schedule.component, recipe.schedule.config
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={toml_value(value)}")]
    options += ["--timesteps", str(recipe.diffusion.timesteps), *component.plugin.options]
    return shlex.join(["ddpmkit", "plugins", "check", component.use, "--kind", "schedule", *options])


def build_images(recipe: Recipe, split: str, around: Around = contextlib.nullcontext) -> ImageSource:
    """The recipe's pictures. Raises InputError when there are none to train on.

    `around` is entered around each call of the dataset ("dataset").
    """
    data = recipe.data.settings
    classes = None if data.classes == "all" else data.classes
    with explaining(f"opening the images of {split}", recipe), around("dataset"):
        dataset: Dataset = recipe.data.build(split=split, classes=classes, image_shape=data.decoded_shape)
        count = _length(dataset)
        if count:
            _check_names(dataset, data.num_classes)
    if split == "train" and count == 0:
        raise InputError(f"the dataset {recipe.data.component.use!r} has no training image.")
    return ImageSource(dataset, data.image_shape, seed=recipe.train.seed, flip=data.flip, around=around)


def _length(dataset: Dataset) -> int:
    """`len(dataset)`. Raises ContractError if that is not an integer of 0 or more."""
    if not hasattr(type(dataset), "__len__"):
        raise ContractError("dataset", "it has no __len__")
    length: Any = type(dataset).__len__(dataset)
    if not hasattr(length, "__index__") or length < 0:
        raise ContractError("dataset", f"its length must be an integer of 0 or more, not {length!a}")
    return operator.index(length)


def _check_names(dataset: Dataset, num_classes: int) -> None:
    """Raises ContractError unless the fingerprint is printable and the dataset has as many classes as the network."""
    fingerprint, classes = dataset.fingerprint, len(dataset.class_names)
    if not isinstance(fingerprint, str) or not fingerprint or not fingerprint.isprintable():
        raise ContractError("dataset", f"its fingerprint must be a text of printable characters, not {fingerprint!a}")
    if num_classes and classes != num_classes:
        raise ContractError("dataset", f"it must have the {num_classes} classes that it is asked for, not {classes}")


def build_metrics(
    recipe: Recipe,
    device: torch.device,
    *,
    skip_unavailable: bool,
    remark: Callable[[str], None],
    around: Around = contextlib.nullcontext,
) -> list[BuiltMetric]:
    """The recipe's metrics, or those that can work here when the others may be skipped.

    `around` is entered around the building of each, with its name. Raises ComponentUnavailable for one that cannot
    work, before any work has started; one InputError for several.
    """
    built, gathering = [], Gathering()
    for name, part in zip(metric_names(recipe), recipe.metrics, strict=True):
        with gathering.noting():
            try:
                with around(f"metric {name!r}"):
                    metric = part.build(device=device)
                    _check_metric(part, metric)
                built.append(BuiltMetric(name, part, metric))
            except ComponentUnavailable as error:
                if not skip_unavailable:
                    raise
                remark(f"skipped metric {name!r}: {error.message}")
    gathering.raise_all()
    return built


def _check_metric(part: Part[MetricSection], metric: Metric) -> None:
    """Raises PluginError for a metric without a valid `protocol` or `better`."""
    component, found = part.component, ""
    protocol, better = getattr(metric, "protocol", None), getattr(metric, "better", None)
    directions = get_args(Better)
    if not isinstance(protocol, MetricProtocol):
        found = f"its `protocol` must be a MetricProtocol, not {type(protocol).__name__}"
    elif not isinstance(better, Mapping) or any(direction not in directions for direction in better.values()):
        found = f"its `better` must map each score to {', '.join(map(repr, directions))}, not be {better!a}"
    if found:
        raise PluginError(
            f"metric {component.use!r} ({component.origin}): {found}.",
            remedies=[fix_hint(component.plugin, component.component.target), "use another metric"],
        )


def metric_names(recipe: Recipe) -> list[str]:
    """The name of each metric in its scores: as a recipe names it, if it uses it once."""
    return distinct_names([(part.component.use, evaluation_keys(part)) for part in recipe.metrics])


def check_keep_best(recipe: Recipe, metrics: Sequence[BuiltMetric], remark: Callable[[str], None]) -> None:
    """That some metric ranks runs by `train.keep_best`. Raises InputError, or remarks on it if metrics were skipped."""
    wanted = recipe.train.keep_best
    if not wanted or any(built.ranks_by(wanted) for built in metrics):
        return
    if len(metrics) < len(recipe.metrics):
        remark(f"warning: train.keep_best = {wanted!r} has no effect: no metric that is left ranks by this score")
        return
    scores = [score for built in metrics for score in built.metric.better if built.ranks_by(score)]
    raise InputError(
        f"train.keep_best = {wanted!r}, but no metric of the recipe gives a score of this name that ranks runs.",
        remedies=[
            *([f"scores that can be used: {', '.join(scores)}"] if scores else []),
            "--set 'train.keep_best=\"\"' keeps no such checkpoint",
        ],
    )


def build_trackers(recipe: Recipe, folder: RunFolder) -> list[TrackerThread]:
    """The recipe's trackers, each in its thread. Raises PluginError for one that cannot be built, or hangs."""
    trackers = []
    for part in recipe.trackers:
        build = functools.partial(part.build, run_folder=folder.path)
        try:
            trackers.append(TrackerThread(part.component.use, build))
        except TimeoutError as error:
            component = part.component
            raise PluginError(
                f"tracker {component.use!r} ({component.origin}) hangs when it is built: {error}.",
                remedies=[fix_hint(component.plugin, component.component.target), "leave the tracker out"],
            ) from error
    return trackers
