"""A run folder, opened: sample it, score it, look into it.

It does not train.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from ddpmkit.arguments import LARGEST_SEED, checked_int
from ddpmkit.checkpoint import Checkpoint, newest_checkpoint, open_checkpoint
from ddpmkit.contracts import Picture, RunEnded, Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.display import Display, SafeDisplay, SilentDisplay
from ddpmkit.errors import InputError
from ddpmkit.experiment.artifacts import evaluate, strip_identity
from ddpmkit.experiment.averages import saved_weights
from ddpmkit.experiment.build import BuiltMetric, Model, build_images, build_metrics, build_model
from ddpmkit.experiment.collected_errors import Gathering
from ddpmkit.experiment.evaluation import Evaluation
from ddpmkit.experiment.failures import explaining
from ddpmkit.experiment.overrides import Purpose, overridden
from ddpmkit.plugin.registry import Registry
from ddpmkit.plural import counted
from ddpmkit.recipe import Provenance, Recipe, chosen_registry, parse_weights, read_lock
from ddpmkit.report import write_report
from ddpmkit.run_folder import RunFolder, not_a_run
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
from ddpmkit.training.state import load_weights

__all__ = ["Run", "check_alpha_bar", "load"]

_log = logging.getLogger(__name__)

Given = Tensor | Path | str
"""A picture or a mask: as it is, or a file, which is scaled and cropped as the run's own pictures are."""


@dataclass(frozen=True)
class Run:
    """What a run left: its recipe, and its weights at one checkpoint."""

    folder: RunFolder
    checkpoint: Checkpoint
    recipe: Recipe
    model: Model
    ended: RunEnded | None = None
    """How the run ended, when it was this process that ran it."""

    def __repr__(self) -> str:
        # Not the fields: whoever looks at a run in a notebook does not want all its weights.
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
        """Draw `count` images: uint8 [count, C, H, W] on the CPU.

        `seed` None is the recipe's: image i is then image i of the run's own grids. `steps` is 1 .. T, `weights` as in
        `sampler.weights`: "ema", "raw", "decay=0.9999", "sigma_rel=0.075"; None: the recipe's. `class_name` None draws
        each class in turn, where the run knows classes.
        """
        return self.draw(self.generator(weights, steps, class_name), count, seed)

    def edit(
        self,
        picture: Given,
        count: int,
        *,
        strength: float = STRENGTH,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Draw `count` images from a noised `picture`, uint8 [C, H, W] or a file: Meng et al. (2022), "SDEdit".

        `strength` (more than 0, at most 1) is the share of the noising steps that the picture is taken through; `steps`
        are those of the whole process all the same. The rest is as in `sample`. Raises InputError for what is no
        picture, or one of another shape.
        """
        generator = image_to_image(self.generator(weights, steps, class_name), self.picture(picture), strength)
        return self.draw(generator, count, seed)

    def inpaint(
        self,
        picture: Given,
        mask: Given,
        count: int,
        *,
        strength: float = 1.0,
        resample: int = RESAMPLE,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Draw `count` images that are `picture` exactly, but where `mask`, bool [H, W] or a file, is True (white).

        `resample` is how often each tenth of the process is walked, so that both parts fit: Lugmayr et al. (2022),
        "RePaint". With a `strength` below 1 the painted part begins as the noised picture, as in `edit`.
        """
        given = self.picture(picture)
        begun = image_to_image(self.generator(weights, steps, class_name), given, strength)
        return self.draw(inpainting(begun, given, self.mask(mask), resample), count, seed)

    def interpolate(
        self,
        first: Given | int,
        last: Given | int,
        count: int = 8,
        *,
        strength: float = STRENGTH,
        seed: int | None = None,
        steps: int | None = None,
        weights: str | None = None,
        class_name: str | None = None,
    ) -> Tensor:
        """Draw `count` images from `first` to `last`: two pictures, as in `edit`, or the numbers of two samples.

        `strength` is for pictures: the more, the less the images are a mere mixture, and the less they are like either
        end. Numbers are those of `sample` with this seed, and both ends are these images. A run that knows classes
        needs `class_name`. Raises InputError for a picture with a number.
        """
        generator = self.generator(weights, steps, class_name)
        return self.draw(self.interpolated(generator, first, last, count, strength), count, seed)

    def interpolated(
        self, generator: ImageGenerator, first: Given | int, last: Given | int, count: int, strength: float
    ) -> ImageGenerator:
        """What `interpolate` draws with, made of `generator`."""
        if generator.num_classes and generator.chosen_class is None:
            names = ", ".join(self.recipe.data.settings.classes)
            raise InputError(
                "this run knows classes, and a row is of one class (--class, class_name).", remedies=[f"one of {names}"]
            )
        if isinstance(first, int) and isinstance(last, int):
            return sample_interpolation(generator, first, last, count)
        if isinstance(first, int) or isinstance(last, int):
            raise InputError("interpolation goes from a picture to a picture, or from a number to a number.")
        return image_interpolation(generator, self.picture(first), self.picture(last), count, strength)

    def draw(
        self, generator: ImageGenerator, count: int, seed: int | None = None, display: Display | None = None
    ) -> Tensor:
        """The first `count` images of a generator of this run, as `sample` gives them.

        Raises RunFailed, which names the component, when one fails.
        """
        count, seed = checked_int("count", count, 1), self._seed(seed)
        samples = counted(count, "sample")
        display = SafeDisplay(display or SilentDisplay())
        progress = display.progress(f"sampling steps for {samples}", generator.sampling_steps(count))
        with explaining(f"drawing {samples}", self.recipe), progress as advance:
            return generator.images(range(count), seed, advance)

    def picture(self, given: Given) -> Tensor:
        """A file as uint8 [C, H, W], scaled and cropped as the run's own pictures are; a tensor as it is."""
        return given if isinstance(given, Tensor) else open_image(Path(given), self.recipe.data.settings)

    def mask(self, given: Given) -> Tensor:
        """A file as bool [H, W], True where it is white, scaled and cropped like a picture; a tensor as it is."""
        return given if isinstance(given, Tensor) else open_mask(Path(given), self.recipe.data.settings)

    def evaluate(
        self, *, num_samples: int | None = None, skip_unavailable_metrics: bool = False, display: Display | None = None
    ) -> list[Scores]:
        """Score the weights by every metric of the recipe, and add the scores to the run's log.

        Raises InputError when the recipe has no metric, ComponentUnavailable when one cannot work here, RunFailed when
        a component fails. A log that cannot be written is a warning.
        """
        return list(
            self.evaluations(
                num_samples=num_samples, skip_unavailable_metrics=skip_unavailable_metrics, display=display
            )
        )

    def evaluations(
        self, *, num_samples: int | None = None, skip_unavailable_metrics: bool = False, display: Display | None = None
    ) -> Iterator[Scores]:
        """The scores of `evaluate`, each as soon as it is there."""
        display = SafeDisplay(display or SilentDisplay())
        if num_samples is not None:
            num_samples = checked_int("num_samples", num_samples, 2)
        if not self.recipe.metrics:
            raise InputError(
                f"the recipe of {self.folder.path} has no [[metric]].",
                remedies=["""--set 'metric=[{use="clean-fid"}]' gives it one for this time"""],
            )
        gathering, device = Gathering(), self.model.runtime.device
        metrics: list[BuiltMetric] = []
        sources: list[ImageSource] = []
        with gathering.noting():
            metrics = build_metrics(
                self.recipe,
                device,
                skip_unavailable=skip_unavailable_metrics,
                remark=display.message,
                around=self.model.around,
            )
        with gathering.noting():
            sources.append(build_images(self.recipe, "train", self.model.around))
        gathering.raise_all()
        for built in metrics:
            evaluation = Evaluation.of(built, self.model, sources[0], num_samples)
            generator = self.generator(evaluation.weights)
            with explaining(f"scoring by {built.name}", self.recipe), generator.around(f"metric {built.name!r}"):
                scores = evaluate(evaluation, generator, self.step, display, "request")
            self._note(scores)
            yield scores

    def _note(self, scores: Scores) -> None:
        log = self.folder.log
        try:
            self.folder.check()
            log.append("scores", asdict(scores))
            log.sync()
        except (OSError, InputError) as error:
            why = error.strerror if isinstance(error, OSError) else error.message
            _log.warning("%s cannot be written (%s): the scores are shown, and not kept", log.path, why)

    def visualize(self, *, seed: int | None = None, display: Display | None = None) -> list[Picture]:
        """Write the pictures of the forward and the reverse process; the two strips.

        Raises InputError when the checkpoint lies outside the folder of a run.
        """
        self.folder.check()
        images = build_images(self.recipe, "train", self.model.around)
        generator = self.generator()
        display = SafeDisplay(display or SilentDisplay())
        with explaining("drawing the forward and the reverse process", self.recipe):
            made_by = strip_identity(self.model)
            return list(visualize(generator, images, self.folder, self.step, self._seed(seed), display, made_by))

    def report(self) -> Path:
        """Write `report.html` anew from what is in the folder. Raises InputError if that is not the folder of a run."""
        self.folder.check()
        return write_report(self.folder.path)

    def generator(
        self, weights: str | None = None, steps: int | None = None, class_name: str | None = None
    ) -> ImageGenerator:
        """What draws images from this run's weights.

        Raises InputError for a class that the run does not know, and for weights that cannot be had; RunFailed for
        weights that are not finite.
        """
        try:
            wanted = parse_weights(weights if weights is not None else self.recipe.sampler.settings.weights)
        except ValueError as error:
            raise InputError(f"weights: {error}.") from error
        if steps is not None:
            steps = checked_int("steps", steps, 1, self.recipe.diffusion.timesteps)
        # A copy: the weights of a generator stay as they are, whatever generator is made next.
        network = copy.deepcopy(self.model.network)
        load_weights(network, saved_weights(wanted, self.checkpoint, self.folder.snapshots, self.recipe.train, network))
        generator = self.model.generator(network.eval().requires_grad_(False), steps=steps)
        return generator if class_name is None else replace(generator, chosen_class=self._class(class_name))

    def _class(self, name: str) -> int:
        data = self.recipe.data.settings
        if not data.labels:
            raise InputError("this run was not trained with data.labels: its network knows no classes.")
        if name not in data.classes:
            raise InputError(f"there is no class {name!r} in this run.", remedies=[f"one of {', '.join(data.classes)}"])
        return data.classes.index(name)

    def _seed(self, seed: int | None) -> int:
        return self.recipe.train.seed if seed is None else checked_int("seed", seed, 0, LARGEST_SEED)


def load(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path | str] = (),
    registry: Registry | None = None,
    trust: bool = False,
    purpose: Purpose | None = None,
    device: str | None = None,
    ended: RunEnded | None = None,
) -> Run:
    """Open a run folder at its newest checkpoint, or one checkpoint folder.

    `overrides` are `key=value` strings as for `--set`, of keys that the weights do not depend on: `sampler.use=ddim`.
    Keys that `purpose` does not use are refused. Components are those of whatever is installed and of the files
    `plugins`, as for `--plugin`; or of `registry` alone. Code that a run from elsewhere names, such as the extractor of
    a metric, runs only if you `trust` it. Raises InputError when there is nothing to open or it is damaged; a
    checkpoint named by path never falls back.
    """
    path, registry = Path(path), chosen_registry(registry, plugins)
    if (path / "manifest.json").exists():
        folder, checkpoint = RunFolder(path.parent.parent), open_checkpoint(path, load=True)
    else:
        folder, found = RunFolder(path), newest_checkpoint(path / "checkpoints")
        if found is None:
            raise not_a_run(path, f"holds no checkpoint (looked in {(path / 'checkpoints').absolute()})")
        checkpoint = found
    lock = read_lock(checkpoint.lock, registry, content=checkpoint.lock_content, trust=trust)
    recipe = overridden(lock.recipe, checkpoint, overrides, registry=registry, trust=trust, purpose=purpose)
    model = build_model(recipe, device)
    check_alpha_bar(model, lock.provenance, checkpoint)
    return Run(folder, checkpoint, recipe, model, ended)


def check_alpha_bar(model: Model, provenance: Provenance, checkpoint: Checkpoint) -> None:
    """Raises InputError when the schedule's code changed so that it is not the one the checkpoint was trained by.

    The recipe cannot show that, and weights are of no use under another alpha_bar.
    """
    if provenance.alpha_bar_fingerprint in (None, model.process.alpha_bar_fingerprint):
        return
    schedule = model.recipe.schedule.component
    raise InputError(
        f"{checkpoint.path} was trained with another alpha_bar than schedule {schedule.use!r} ({schedule.origin}) "
        "gives now by the same recipe: the schedule's code has changed.",
        remedies=["ddpmkit run RECIPE --out DIR starts another run", *provenance.restore_hints(schedule.plugin)],
    )
