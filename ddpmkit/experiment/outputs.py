"""Makes the outputs of a run: samples, scores, image strips of the forward and the reverse process, and the report."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from ddpmkit.contracts import Picture, Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.display import ProgressDisplay
from ddpmkit.errors import error_text
from ddpmkit.experiment.ema_snapshots import Snapshots
from ddpmkit.experiment.evaluation import Evaluation, check_finite, evaluate
from ddpmkit.experiment.failures import explain_failure
from ddpmkit.experiment.model import Model
from ddpmkit.experiment.output_identity import grid_identity, strips_identity
from ddpmkit.experiment.stop_requests import Stopped
from ddpmkit.experiment.weights import WeightsSource, select_network
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plural import counted
from ddpmkit.recipe import parse_weights
from ddpmkit.report import write_report
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.image_grid import grid, is_made_by, save_png
from ddpmkit.sampling.visualize import is_visualized, visualize
from ddpmkit.tracking import EventDispatcher

__all__ = ["RunOutputs", "is_due"]

_log = logging.getLogger(__name__)


def is_due(every: int, step: int, last_step: int) -> bool:
    """Return whether an output is due after `step`: every `every` steps (0: never) and after the last step."""
    return step > 0 and (step == last_step or (every > 0 and step % every == 0))


class RunOutputs:
    """Makes each output when it is due. A failure is reported, and the run continues."""

    def __init__(
        self,
        model: Model,
        folder: RunFolder,
        images: ImageSource,
        evaluations: Sequence[Evaluation],
        skipped_metrics: tuple[str, ...],
        weights: WeightsSource,
        events: EventDispatcher,
        display: ProgressDisplay,
    ) -> None:
        """`weights` are those of the run; `display` may raise Stopped."""
        self._model, self._folder, self._images, self._weights = model, folder, images, weights
        self._evaluations, self._skipped_metrics = evaluations, skipped_metrics
        self._events, self._display = events, display
        self._recipe = model.recipe
        self.scores: list[Scores] = []
        """All scores in the log."""
        self.problems: list[str] = []
        """One sentence for each failure."""

    def make_due(self, step: int) -> bool:
        """Make the samples and scores that are due after `step` and missing. Returns whether there were any."""
        last, is_changed = self._recipe.train.steps, False
        if is_due(self._recipe.train.sample_every, step, last) and not self._has_samples(step):
            is_changed = True
            self._remove_outdated_report()
            with self._report_failures(f"generating the samples of step {step}"):
                self._save_samples(step)
        for evaluation in self._evaluations:
            if is_due(evaluation.built.part.settings.every, step, last) and not self._has_scores(evaluation, step):
                is_changed = True
                self._remove_outdated_report()
                with self._report_failures(f"evaluating step {step} by {evaluation.built.name}"):
                    self._evaluate(evaluation, step)
        return is_changed

    def finish(self, *, is_changed: bool) -> None:
        """Make the strips and the report if they are missing. Write the report also if another output has changed."""
        made_by = strips_identity(self._model)
        if not is_visualized(self._folder, made_by):
            is_changed = True
            self._remove_outdated_report()
            step, seed = self._weights.step, self._recipe.train.seed
            with self._report_failures("visualizing the forward and the reverse process"):
                generator = self._generator(self._recipe.sampler.settings.weights)
                for strip in visualize(generator, self._images, self._folder, step, seed, self._display, made_by):
                    self._events.picture(strip)
        if is_changed or not self._folder.report.exists():
            with self._report_failures("writing the report"):
                write_report(self._folder.path, self._skipped_metrics)

    def best_step(self, steps: Sequence[int]) -> int | None:
        """Return the step of `steps` with the best score `train.keep_best`; None if there is no such score."""
        score = self._recipe.train.keep_best
        ranking = next((each for each in self._evaluations if each.built.ranks_by(score)), None)
        return ranking.best_step(self.scores, score, steps) if ranking is not None else None

    def _save_samples(self, step: int) -> None:
        settings, seed = self._recipe.sampler.settings, self._recipe.train.seed
        generator, count = self._generator(settings.weights), settings.count
        description = f"sampling steps for {counted(count, 'sample')}"
        with self._display.progress(description, generator.sampling_steps(count)) as advance:
            images = generator.images(range(count), seed, advance)
        path = save_png(grid(images), self._folder.samples(step), grid_identity(self._model))
        self._events.picture(Picture(step, "samples", path))

    def _evaluate(self, evaluation: Evaluation, step: int) -> None:
        generator = self._generator(evaluation.weights)
        with generator.guard(f"metric {evaluation.built.name!r}"):
            scores = evaluate(evaluation, generator, step, self._display)
        self.scores.append(scores)
        self._folder.log.append("scores", asdict(scores))
        self._events.scores(scores)
        check_finite(scores)

    def _generator(self, weights: str) -> ImageGenerator:
        network = select_network(parse_weights(weights), self._weights, Snapshots(self._folder.snapshots))
        return self._model.generator(network)

    def _has_samples(self, step: int) -> bool:
        return is_made_by(self._folder.samples(step), grid_identity(self._model))

    def _has_scores(self, evaluation: Evaluation, step: int) -> bool:
        return any(scores.step == step and evaluation.produced(scores) for scores in self.scores)

    def _remove_outdated_report(self) -> None:
        """After the last step, delete the report before outputs change.

        If this process is killed, the next one writes a new report.
        """
        if self._weights.step == self._recipe.train.steps:
            self._folder.report.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _report_failures(self, activity: str) -> Iterator[None]:
        """Report a failure in the block, and continue: the weights do not depend on this work."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Stopped) or is_interrupt(error):
                raise
            reason = explain_failure(error, activity, self._recipe)
            text = error_text(reason)
            # An explanation already states what was being done.
            problem = text if reason is not error else f"{activity} failed: {text.removesuffix('.')}."
            _log.warning("%s The run continues.", problem, exc_info=_log.isEnabledFor(logging.DEBUG))
            self.problems.append(problem)
            self._folder.incidents.append("failed", {"step": self._weights.step, "doing": activity, "reason": text})
