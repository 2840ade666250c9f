"""Builds the diffusion process, the network, the loss and the sampler of a recipe."""

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from ddpmkit.contracts import Loss, Sampler, Schedule
from ddpmkit.device_program import only_once
from ddpmkit.diffusion import GaussianDiffusion, check_alphas_cumprod, with_zero_terminal_snr
from ddpmkit.errors import InputError, PluginError, RunFailed, error_text
from ddpmkit.global_state import Guard, SettingsGuard
from ddpmkit.interrupts import is_interrupt
from ddpmkit.randomness import Purpose, integer
from ddpmkit.recipe import Recipe, toml_value
from ddpmkit.runtime import Runtime, choose_runtime, keep_freed_memory, seeded_build
from ddpmkit.sampling.generate import ImageGenerator, warn_not_captured
from ddpmkit.training.objective import Objective
from ddpmkit.training.state import first_not_finite

__all__ = ["Model", "build_model"]


@dataclass(frozen=True)
class Model:
    """The diffusion process, the network and the device they are on."""

    recipe: Recipe
    runtime: Runtime
    process: GaussianDiffusion
    network: nn.Module = field(repr=False)
    guard: Guard = contextlib.nullcontext
    """Context manager around each call of a component (by its kind): it restores changed global settings."""
    not_captured: Callable[[Exception], None] = warn_not_captured
    """Receives the reason if the network cannot be captured in a CUDA graph for sampling."""

    def objective(self) -> Objective:
        """Return the recipe's training objective."""
        diffusion = self.recipe.diffusion
        with self.guard("loss"):
            loss: Loss = self.recipe.loss.build(prediction=diffusion.prediction)
        return Objective(
            self.process,
            loss,
            self.runtime,
            offset_noise=diffusion.offset_noise,
            num_classes=self.recipe.data.settings.num_classes,
            label_dropout=self.recipe.train.label_dropout,
            guard=self.guard,
        )

    def generator(self, network: nn.Module, sampler: Sampler | None = None, steps: int | None = None) -> ImageGenerator:
        """Return a generator of images from `network`. Sampler and number of steps are by default the recipe's.

        Raises InputError if `steps` is not in 1 .. T, RunFailed if a weight is NaN or infinity.
        """
        if (name := first_not_finite(network.state_dict())) is not None:
            raise RunFailed(
                f"these weights cannot generate images: tensor {name!r} contains NaN or infinity.",
                remedies=["use an earlier checkpoint: give its folder, RUN/checkpoints/step-N, instead of RUN"],
            )
        settings = self.recipe.sampler.settings
        steps, timesteps = steps or self.sampling_steps, self.process.timesteps
        if not 1 <= steps <= timesteps:
            raise InputError(f"sampler.steps = {steps} is not between 1 and diffusion.timesteps = {timesteps}.")
        return ImageGenerator(
            network=self.runtime.prepare(network),
            process=self.process,
            sampler=sampler or self._sampler(),
            image_shape=self.recipe.data.settings.image_shape,
            steps=steps,
            batch_size=settings.batch_size,
            runtime=self.runtime,
            num_classes=self.recipe.data.settings.num_classes,
            guidance=settings.guidance,
            guard=self.guard,
            not_captured=self.not_captured,
        )

    @property
    def sampling_steps(self) -> int:
        """The recipe's number of sampling steps."""
        return self.recipe.sampler.settings.steps or self.process.timesteps

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(weight.numel() for weight in self.network.parameters())

    def _sampler(self) -> Sampler:
        with self.guard("sampler"):
            sampler: Sampler = self.recipe.sampler.build()
        return sampler


def build_model(recipe: Recipe, device: str | None = None) -> Model:
    """Return the diffusion process, and the network with its initial weights, which depend only on the recipe's seed.

    Raises PluginError for a component that fails, or a schedule that is not valid.
    """
    train = recipe.train
    runtime = choose_runtime(device or train.device, train.precision, tf32=train.tf32, compiles=train.compile)
    if runtime.device.type == "cpu":
        keep_freed_memory()
    guard = _settings_guard(recipe)
    process = _process(recipe, guard).to(runtime.device)
    data = recipe.data.settings
    learns_variance = "learned-variance" in recipe.loss.component.component.provides
    # With self-conditioning, the input has the channels of the image, then those of the x0 estimate.
    in_channels = (2 if recipe.diffusion.self_conditioning else 1) * data.channels
    # torch's generator needs a 64-bit seed. The stream INIT is independent of all other random numbers.
    with seeded_build(integer(recipe.train.seed, Purpose.INIT)), guard("backbone"):
        network: nn.Module = recipe.backbone.build(
            image_shape=data.image_shape._replace(channels=in_channels),
            num_classes=data.num_classes,
            out_channels=2 * data.channels if learns_variance else data.channels,
        )
    prepared = runtime.prepare(network.to(runtime.device))
    # Once for all generators: a run has one for each output.
    name = f"the backbone {recipe.backbone.component.use!r}"
    return Model(recipe, runtime, process, prepared, guard, only_once(lambda reason: warn_not_captured(reason, name)))


def _process(recipe: Recipe, guard: Guard) -> GaussianDiffusion:
    diffusion = recipe.diffusion
    with guard("schedule"):
        alphas_cumprod = _alphas_cumprod(recipe)
    if diffusion.zero_terminal_snr:
        if diffusion.timesteps < 2:
            raise InputError("diffusion.zero_terminal_snr needs diffusion.timesteps of 2 or more.")
        alphas_cumprod = with_zero_terminal_snr(alphas_cumprod)
    if float(alphas_cumprod[-1]) == 0 and diffusion.prediction == "epsilon":
        raise InputError(
            f"schedule {recipe.schedule.component.use!r} ends at alpha_bar = 0, where x0 cannot be recovered from eps.",
            remedies=['set diffusion.prediction = "v" or "x0"', "use another schedule"],
        )
    return GaussianDiffusion(alphas_cumprod, diffusion.prediction, self_conditioning=diffusion.self_conditioning)


def _settings_guard(recipe: Recipe) -> Guard:
    """Return a guard that restores global settings. It receives the kind of a component, or another text."""
    settings_guard = SettingsGuard()
    parts = (recipe.schedule, recipe.backbone, recipe.loss, recipe.sampler, recipe.data)
    names = {part.component.kind: f"{part.component.kind} {part.component.use!r}" for part in parts}
    return lambda caller: settings_guard.guard(names.get(caller, caller))


def _alphas_cumprod(recipe: Recipe) -> Tensor:
    """Return alpha_bar of the recipe's schedule, float64 [T]. Raises PluginError for any failure."""
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
            remedies=[f"run `{_check_command(recipe)}` to see the details", "use another schedule"],
        ) from error
    return alphas_cumprod


def _check_command(recipe: Recipe) -> str:
    """Return the command that checks the recipe's schedule with the recipe's keys and T."""
    component, config = recipe.schedule.component, recipe.schedule.config
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={toml_value(value)}")]
    options += ["--timesteps", str(recipe.diffusion.timesteps), *component.plugin.options]
    return shlex.join(["ddpmkit", "plugins", "check", component.use, "--kind", "schedule", *options])
