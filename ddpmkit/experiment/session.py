"""One run from its first step, or its last checkpoint, to its last picture.

Holds the order of things: step, validate, record, checkpoint, samples, scores, and at the end pictures and the report.
It does not know how any of them is done.
"""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import torch
from torch import nn

from ddpmkit.checkpoint import Checkpoint
from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.data.images import ImageSource
from ddpmkit.display import Display
from ddpmkit.errors import error_text
from ddpmkit.experiment.artifacts import draw_samples, evaluate, grid_identity, refuse_unusable, strip_identity
from ddpmkit.experiment.averages import forget_snapshots_after, kept_average, reconstructed
from ddpmkit.experiment.build import BuiltMetric, Model, metric_names
from ddpmkit.experiment.evaluation import Evaluation
from ddpmkit.experiment.failures import explained, explaining
from ddpmkit.experiment.interruption import Interruptible, Stopped
from ddpmkit.experiment.recovery import Recovery
from ddpmkit.experiment.saving import Saver
from ddpmkit.interrupts import is_interrupt
from ddpmkit.recipe import parse_weights
from ddpmkit.report import write_report
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.image_grid import is_made_by
from ddpmkit.sampling.visualize import is_visualized, visualize
from ddpmkit.score_log import read_scores
from ddpmkit.tracking import EventDispatcher
from ddpmkit.training.state import load_weights, part_names, restore
from ddpmkit.training.trainer import NotFinite, StepOutcome, Trainer
from ddpmkit.training.validation import validation_loss

__all__ = ["Session"]

_log = logging.getLogger(__name__)


class Session:
    """A run in progress."""

    def __init__(
        self,
        model: Model,
        folder: RunFolder,
        images: ImageSource,
        held_out: ImageSource,
        metrics: list[BuiltMetric],
        events: EventDispatcher,
        display: Display,
        stop: Callable[[], bool],
    ) -> None:
        """Everything is built; nothing has begun. `stop` is asked before every step and between units of other work."""
        self.model, self.folder, self.images, self.held_out = model, folder, images, held_out
        self.events, self.stop = events, stop
        self.evaluations = [Evaluation.of(built, model, images) for built in metrics]
        self.scores: list[Scores] = []
        """Those of the log."""
        self.display = Interruptible(display, stop)
        self.recipe = model.recipe
        self.objective = model.objective()
        self.log = folder.log
        self.trainer = Trainer(model.network, self.objective, images, self.recipe.train)
        self.saver = Saver(self.trainer, folder, self.log, display.message, self._is_regular, self._best_step)
        self.recovery = Recovery(
            self.trainer, self.saver, folder, display.message, self._restore, is_regular=self._is_regular
        )
        self.problems: list[str] = []
        self.skipped_metrics: tuple[str, ...] = ()

    def run(self, checkpoint: Checkpoint | None) -> RunEnded:
        """Go on from `checkpoint` (None: from the start) until the recipe's last step or until `stop()` is true.

        Raises whatever ended the run early, after `run_ended` was sent.
        """
        self._restore(checkpoint)
        steps = self.recipe.train.steps
        evaluations = {each.built.name: each.built.part.settings.every for each in self.evaluations}
        self.skipped_metrics = tuple(name for name in metric_names(self.recipe) if name not in evaluations)
        self.events.run_started(
            RunStarted(
                name=self.recipe.name,
                folder=self.folder.path,
                recipe=self.recipe.as_data(),
                parameters=self.model.parameters,
                first_step=self.trainer.step,
                last_step=steps,
                evaluations=evaluations,
                skipped_metrics=self.skipped_metrics,
            )
        )
        for scores in self.scores:
            # Whoever wrote them to the log may have been killed before it told anyone.
            if scores.step == self.trainer.step and scores.origin == "run":
                self.events.scores(scores)
        try:
            with torch.enable_grad(), self.model.runtime.deterministic(), explaining("running", self.recipe):
                finished = self._to_the_end()
        except BaseException as error:
            interrupted = is_interrupt(error)
            ended = RunEnded(self.trainer.step, "stopped" if interrupted else "failed")
            self.events.run_ended(ended, stop=self.stop, interrupted=interrupted)
            raise
        ended = RunEnded(self.trainer.step, "finished" if finished else "stopped", tuple(self.problems))
        self.events.run_ended(ended, stop=self.stop)
        return ended

    def _to_the_end(self) -> bool:
        """True when all is done, False when asked to stop before."""
        try:
            # What was due at the step we resume from may have been cut off: whatever of it is missing is made now.
            made_up = self._intervals(self.trainer.step)
            self._train()
            self._finish(made_up)
            self.saver.finish()
        except Stopped:
            self._save(is_last_chance=True)
            return False
        except BaseException as error:
            self._keep_what_was_learned(at_once=is_interrupt(error))
            raise
        return True

    def _train(self) -> None:
        train, trainer = self.recipe.train, self.trainer
        if train.on_nonfinite == "rollback" and self.saver.saved_step is None:
            self._save()  # the start, to go back to
        counted, seconds = 0, 0.0
        while trainer.step < train.steps:
            if self.stop():
                raise Stopped
            started = time.perf_counter()
            outcome = self._advance()
            counted, seconds = counted + train.batch_size, seconds + time.perf_counter() - started
            validate = self._due(train.validate_every)
            if outcome is not None and (validate or self._due(train.log_every)):
                self._record(outcome, counted / seconds, validate=validate)
                counted, seconds = 0, 0.0
            if train.ema_sigma_rels and train.ema_snapshot_every and trainer.step % train.ema_snapshot_every == 0:
                self._save_snapshot()
            if trainer.step == train.steps:
                # Of a run that once ended earlier. Before the last checkpoint, after which nothing would tell.
                self.folder.remove_final_files()
            if self._is_regular(trainer.step):
                self._save(is_last_chance=trainer.step == train.steps)
            self._intervals(trainer.step)

    def _advance(self) -> StepOutcome | None:
        """One step; None when its numbers were not finite, and the recipe's policy has dealt with that."""
        try:
            with explaining(f"training step {self.trainer.step + 1}", self.recipe):
                return self.trainer.train_step()
        except NotFinite as error:
            self.recovery.recover(error)
            return None

    def _keep_what_was_learned(self, *, at_once: bool) -> None:
        """Save the steps before a failure, unless it came in the middle of an update of the weights.

        `at_once`: only finish the checkpoint that is being written, before the folder is free for another process.
        """
        try:
            if at_once or self.trainer.is_updating:
                self.saver.wait()
            else:
                self.saver.save(is_last_chance=True)
        except Exception as error:  # the failure itself is what the person should read
            _log.debug("the state at step %d was not saved: %s", self.trainer.step, error_text(error))

    def _save(self, *, is_last_chance: bool = False) -> None:
        try:
            self.saver.save(is_last_chance=is_last_chance)
        except NotFinite as error:
            self.recovery.recover(error)

    def _save_snapshot(self) -> None:
        try:
            self.saver.save_snapshot()
        except NotFinite as error:
            self.recovery.recover(error)

    def _restore(self, checkpoint: Checkpoint | None) -> None:
        """The trainer, the log and the samples as they were at `checkpoint`; None: at the start."""
        if checkpoint is not None:
            parts = {name: checkpoint.tensors(name) for name in part_names(self.trainer)}
            if as_before := restore(self.trainer, checkpoint.step, parts):
                self.display.message(
                    "each weight keeps the optimizer, Muon or Adam, that it had when the run began; a new run has "
                    f"another one for {', '.join(as_before)}"
                )
            self.saver.saved_step = checkpoint.step
        step = self.trainer.step
        self.log.keep(lambda record: bool(record["step"] <= step))
        self.scores = read_scores(self.log)
        self.events.wait_briefly()
        self.folder.remove_grids_after(step)
        forget_snapshots_after(step, self.folder.snapshots)

    def _due(self, every: int, step: int | None = None) -> bool:
        """Every so many steps, and after the last; 0 means only after the last."""
        step = self.trainer.step if step is None else step
        return step > 0 and (step == self.recipe.train.steps or (every > 0 and step % every == 0))

    def _is_regular(self, step: int) -> bool:
        """Whether a run that is never stopped saves a checkpoint after `step`: the only ones it may go back to."""
        train = self.recipe.train
        scored = any(self._due(each.built.part.settings.every, step) for each in self.evaluations)
        return step == 0 or self._due(train.checkpoint_every, step) or (bool(train.keep_best) and scored)

    def _best_step(self, steps: Sequence[int]) -> int | None:
        """Which of the checkpoints at `steps` is kept for its score."""
        score = self.recipe.train.keep_best
        ranking = next((each for each in self.evaluations if each.built.ranks_by(score)), None)
        return ranking.best_step(self.scores, score, steps) if ranking is not None else None

    def _record(self, outcome: StepOutcome, images_per_second: float, *, validate: bool) -> None:
        held_out = None
        if validate:
            with explaining(f"validating step {self.trainer.step}", self.recipe):
                held_out = validation_loss(self.trainer.averaged(), self.objective, self.held_out)
        if held_out is not None and not math.isfinite(held_out):
            self.recovery.note_validation(self.trainer.step, held_out)
            held_out = None
        record = StepRecord(
            step=self.trainer.step,
            loss=outcome.loss,
            loss_by_quarter=self.trainer.loss_by_quarter.take(),
            gradient_norm=outcome.gradient_norm,
            learning_rate=outcome.learning_rate,
            images_per_second=images_per_second,
            validation_loss=held_out,
        )
        # The log is written whatever the trackers do.
        self.log.append("step", asdict(record))
        self.events.step(record)

    def _intervals(self, step: int) -> bool:
        """Samples and scores that are due after `step` and not there yet; whether there were any to make."""
        made = False
        if self._due(self.recipe.train.sample_every, step) and not self._is_sampled(step):
            made = True
            self._outdate_report()
            with self._forgiving(f"drawing the samples of step {step}"):
                generator = self._generator(self.recipe.sampler.settings.weights)
                path = draw_samples(generator, self.model, self.folder, step, self.display)
                self.events.picture(Picture(step, "samples", path))
        for each in self.evaluations:
            if self._due(each.built.part.settings.every, step) and not self._is_evaluated(each, step):
                made = True
                self._outdate_report()
                with self._forgiving(f"scoring step {step} by {each.built.name}"):
                    generator = self._generator(each.weights)
                    with generator.around(f"metric {each.built.name!r}"):
                        scores = evaluate(each, generator, step, self.display)
                    self.scores.append(scores)
                    self.log.append("scores", asdict(scores))
                    self.events.scores(scores)
                    refuse_unusable(scores)
        return made

    def _outdate_report(self) -> None:
        """Remove the page of a finished run that gets more: if this process is killed, the next one writes it anew."""
        if self.trainer.step == self.recipe.train.steps:
            self.folder.report.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _forgiving(self, doing: str) -> Iterator[None]:
        """Work that the weights do not depend on: when it fails, that is reported, and the run goes on."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Stopped) or is_interrupt(error):
                raise
            reason = explained(error, doing, self.recipe)
            text = error_text(reason)
            # An explanation says itself what was being done.
            problem = text if reason is not error else f"{doing} failed: {text}"
            _log.warning("%s The run goes on.", problem, exc_info=_log.isEnabledFor(logging.DEBUG))
            self.problems.append(problem)
            self.folder.incidents.append("failed", {"step": self.trainer.step, "doing": doing, "reason": text})

    def _is_sampled(self, step: int) -> bool:
        return is_made_by(self.folder.samples(step), grid_identity(self.model))

    def _is_evaluated(self, evaluation: Evaluation, step: int) -> bool:
        return any(scores.step == step and evaluation.gave(scores) for scores in self.scores)

    def _generator(self, weights: str) -> ImageGenerator:
        kept = kept_average(parse_weights(weights), self.recipe.train)
        if kept.kind == "sigma_rel" and kept not in self.trainer.averages:
            return self.model.generator(self._reconstructed(kept.value))
        return self.model.generator(self.trainer.averaged(kept))

    def _reconstructed(self, sigma_rel: float) -> nn.Module:
        """A network with the average of a width that the trainer does not keep."""
        self.saver.wait()
        current = {
            weights.value: average.network.state_dict()
            for weights, average in self.trainer.averages.items()
            if weights.kind == "sigma_rel"
        }
        network = copy.deepcopy(self.trainer.network)
        load_weights(network, reconstructed(sigma_rel, self.trainer.step, current, self.folder.snapshots, network))
        return network

    def _finish(self, made_up: bool) -> None:
        """The pictures of both processes and the page, where missing; the page anew where more was `made_up` for."""
        made_by = strip_identity(self.model)
        if not is_visualized(self.folder, made_by):
            made_up = True
            self._outdate_report()
            step, seed = self.trainer.step, self.recipe.train.seed
            with self._forgiving("drawing the forward and the reverse process"):
                generator = self._generator(self.recipe.sampler.settings.weights)
                for picture in visualize(generator, self.images, self.folder, step, seed, self.display, made_by):
                    self.events.picture(picture)
        if made_up or not self.folder.report.exists():
            with self._forgiving("writing the report"):
                write_report(self.folder.path, self.skipped_metrics)
