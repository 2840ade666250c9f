"""`Run`: an opened run, to generate and edit images with its weights, evaluate them, and visualize the process."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from ddpmkit.arguments import LARGEST_SEED, checked_int
from ddpmkit.checkpoint import Checkpoint
from ddpmkit.contracts import Picture, RunEnded, Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.display import Display, SafeDisplay, SilentDisplay
from ddpmkit.errors import InputError
from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.collected_errors import ErrorCollector
from ddpmkit.experiment.ema_snapshots import Snapshots
from ddpmkit.experiment.evaluation import Evaluation, evaluate
from ddpmkit.experiment.failures import explain_failures
from ddpmkit.experiment.metrics import BuiltMetric, build_metrics
from ddpmkit.experiment.model import Model
from ddpmkit.experiment.output_identity import strips_identity
from ddpmkit.experiment.weights import CheckpointWeights, select_network
from ddpmkit.plural import counted
from ddpmkit.recipe import Recipe, parse_weights
from ddpmkit.report import write_report
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.editing import (
    RESAMPLE,
    STRENGTH,
    image_interpolation,
    image_to_image,
    inpainting,
    sample_interpolation,
)
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.input_images import open_image, open_mask
from ddpmkit.sampling.visualize import visualize

__all__ = ["Run"]

_log = logging.getLogger(__name__)

ImageInput = Tensor | Path | str
"""An image or a mask: a tensor as it is, or a file, which is scaled and cropped like the run's training images."""


@dataclass(frozen=True)
class Run:
    """A run folder at one checkpoint: its recipe and its weights."""

    folder: RunFolder
    checkpoint: Checkpoint
    recipe: Recipe
    model: Model
    ended: RunEnded | None = None
    """How the run ended, if this process ran it."""

    def __repr__(self) -> str:
        # The fields contain all weights, which would flood a notebook.
        return f"<Run {str(self.folder.path)!r} at step {self.step}>"

    @property
    def step(self) -> int:
        """The optimizer step of the weights."""
        return self.checkpoint.step

    def sample(
        self,
        count: int,
        *,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Generate `count` images: uint8 [count, C, H, W] on the CPU.

        `seed` is by default the recipe's; image i is then image i of the grids of the run. `steps` is 1 .. T. `weights`
        is a value of `sampler.weights` ("ema", "raw", "decay=0.9999", "sigma_rel=0.075"), by default the recipe's. If
        the run has class labels, `class_name` None generates each class in turn.
        """
        return self.generate(self.generator(weights, steps, class_name), count, seed)

    def edit(
        self,
        picture: ImageInput,
        count: int,
        *,
        strength: float = STRENGTH,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Generate `count` images from a noised image, uint8 [C, H, W] or a file: Meng et al. (2022), "SDEdit".

        `strength` (more than 0, at most 1) is the fraction of the noising steps that are applied to the image; `steps`
        still counts the steps from pure noise. Other arguments are as in `sample`. Raises InputError for a file that is
        not an image, or an image of another shape.
        """
        generator = image_to_image(self.generator(weights, steps, class_name), self.open_image(picture), strength)
        return self.generate(generator, count, seed)

    def inpaint(
        self,
        picture: ImageInput,
        mask: ImageInput,
        count: int,
        *,
        strength: float = 1.0,
        resample: int = RESAMPLE,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Generate `count` images that equal `picture` except where `mask`, bool [H, W] or a file, is True (white).

        Each tenth of the process is repeated `resample` times, so that the generated region matches the known one:
        Lugmayr et al. (2022), "RePaint". With a `strength` below 1, the masked region starts from the noised image, as
        in `edit`.
        """
        image = self.open_image(picture)
        start = image_to_image(self.generator(weights, steps, class_name), image, strength)
        return self.generate(inpainting(start, image, self.open_mask(mask), resample), count, seed)

    def interpolate(
        self,
        first: ImageInput | int,
        last: ImageInput | int,
        count: int = 8,
        *,
        strength: float = STRENGTH,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Generate `count` images from `first` to `last`: two images, as in `edit`, or the indices of two samples.

        `strength` applies to images: a higher strength gives results that look less like a blend, and less like the two
        images. Indices are those of `sample` with this seed, and the first and the last image are these samples. A run
        with class labels needs `class_name`. Raises InputError for an image together with an index.
        """
        generator = self.generator(weights, steps, class_name)
        return self.generate(self.interpolation(generator, first, last, count, strength), count, seed)

    def interpolation(
        self, generator: ImageGenerator, first: ImageInput | int, last: ImageInput | int, count: int, strength: float
    ) -> ImageGenerator:
        """Return the generator that `interpolate` uses, made from `generator`."""
        if generator.num_classes and generator.chosen_class is None:
            names = ", ".join(self.recipe.data.settings.classes)
            raise InputError(
                "this run has class labels: interpolation needs one class (--class, class_name).",
                remedies=[f"one of {names}"],
            )
        if isinstance(first, int) and isinstance(last, int):
            return sample_interpolation(generator, first, last, count)
        if isinstance(first, int) or isinstance(last, int):
            raise InputError("interpolation needs two images or two sample indices, not one of each.")
        return image_interpolation(generator, self.open_image(first), self.open_image(last), count, strength)

    def generate(
        self, generator: ImageGenerator, count: int, seed: int | None = None, display: Display | None = None
    ) -> Tensor:
        """Generate the first `count` images of a generator of this run, as `sample` returns them.

        Raises RunFailed, which names the component, if a component fails.
        """
        count, seed = checked_int("count", count, 1), self._seed(seed)
        samples = counted(count, "sample")
        display = SafeDisplay(display or SilentDisplay())
        progress = display.progress(f"sampling steps for {samples}", generator.sampling_steps(count))
        with explain_failures(f"generating {samples}", self.recipe), self.model.runtime.settings(), progress as advance:
            return generator.images(range(count), seed, advance)

    def open_image(self, image: ImageInput) -> Tensor:
        """Return a file as uint8 [C, H, W], scaled and cropped like the run's training images; a tensor as it is."""
        return image if isinstance(image, Tensor) else open_image(Path(image), self.recipe.data.settings)

    def open_mask(self, mask: ImageInput) -> Tensor:
        """Return a file as bool [H, W], True if white, scaled and cropped like an image; a tensor as it is."""
        return mask if isinstance(mask, Tensor) else open_mask(Path(mask), self.recipe.data.settings)

    def evaluate(
        self, *, num_samples: int | None = None, skip_unavailable_metrics: bool = False, display: Display | None = None
    ) -> list[Scores]:
        """Evaluate the weights by every metric of the recipe, and add the scores to the run's log.

        Raises InputError if the recipe has no metric, ComponentUnavailable if a metric cannot run on this machine,
        RunFailed if a component fails. A log that cannot be written triggers a warning.
        """
        return list(
            self.evaluations(
                num_samples=num_samples, skip_unavailable_metrics=skip_unavailable_metrics, display=display
            )
        )

    def evaluations(
        self, *, num_samples: int | None = None, skip_unavailable_metrics: bool = False, display: Display | None = None
    ) -> Iterator[Scores]:
        """Yield the scores of `evaluate`, one metric at a time."""
        display = SafeDisplay(display or SilentDisplay())
        if num_samples is not None:
            num_samples = checked_int("num_samples", num_samples, 2)
        if not self.recipe.metrics:
            raise InputError(
                f"the recipe of {self.folder.path} has no [[metric]].",
                remedies=["""add --set 'metric=[{use="clean-fid"}]' to use one for this call"""],
            )
        errors = ErrorCollector()
        metrics: list[BuiltMetric] = []
        sources: list[ImageSource] = []
        with errors.collecting():
            metrics = build_metrics(
                self.recipe,
                self.model.runtime.device,
                skip_unavailable=skip_unavailable_metrics,
                message=display.message,
                guard=self.model.guard,
            )
        with errors.collecting():
            sources.append(build_images(self.recipe, "train", self.model.guard))
        errors.raise_collected()
        for built in metrics:
            evaluation = Evaluation.of(built, self.model, sources[0], num_samples)
            generator = self.generator(evaluation.weights)
            with (
                explain_failures(f"evaluating by {built.name}", self.recipe),
                self.model.runtime.settings(),
                generator.guard(f"metric {built.name!r}"),
            ):
                scores = evaluate(evaluation, generator, self.step, display, "request")
            self._log_scores(scores)
            yield scores

    def visualize(self, *, seed: int | None = None, display: Display | None = None) -> list[Picture]:
        """Write the strips of the forward and the reverse process, and return them.

        Raises InputError if the checkpoint is not in a run folder.
        """
        self.folder.check()
        images = build_images(self.recipe, "train", self.model.guard)
        generator = self.generator()
        display = SafeDisplay(display or SilentDisplay())
        activity = "visualizing the forward and the reverse process"
        with explain_failures(activity, self.recipe), self.model.runtime.settings():
            made_by = strips_identity(self.model)
            return list(visualize(generator, images, self.folder, self.step, self._seed(seed), display, made_by))

    def report(self) -> Path:
        """Write `report.html` from what is in the folder. Raises InputError if the folder is not a run folder."""
        self.folder.check()
        return write_report(self.folder.path)

    def generator(
        self, weights: str | None = None, steps: int | None = None, class_name: str | None = None
    ) -> ImageGenerator:
        """Return a generator of images from this run's weights.

        Raises InputError for an unknown class and for weights that are not available, RunFailed for weights that are
        NaN or infinity.
        """
        try:
            choice = parse_weights(weights if weights is not None else self.recipe.sampler.settings.weights)
        except ValueError as error:
            raise InputError(f"weights: {error}.") from error
        if steps is not None:
            steps = checked_int("the number of sampling steps", steps, 1, self.recipe.diffusion.timesteps)
        source = CheckpointWeights(self.checkpoint, self.recipe.train, self.model.network)
        network = select_network(choice, source, Snapshots(self.folder.snapshots))
        generator = self.model.generator(network, steps=steps)
        return generator if class_name is None else replace(generator, chosen_class=self._class(class_name))

    def _class(self, name: str) -> int:
        data = self.recipe.data.settings
        if not data.labels:
            raise InputError("this run was trained without data.labels, so it does not support class conditioning.")
        if name not in data.classes:
            raise InputError(f"this run has no class {name!r}.", remedies=[f"one of {', '.join(data.classes)}"])
        return data.classes.index(name)

    def _seed(self, seed: int | None) -> int:
        return self.recipe.train.seed if seed is None else checked_int("seed", seed, 0, LARGEST_SEED)

    def _log_scores(self, scores: Scores) -> None:
        log = self.folder.log
        try:
            self.folder.check()
            log.append("scores", asdict(scores))
            log.sync()
        except (OSError, InputError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message
            _log.warning("%s cannot be written (%s): the scores are shown, but not stored.", log.path, reason)
