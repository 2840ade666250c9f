"""Runs a recipe from its first step, or its last checkpoint, to its report.

After each training step, it does the following if it is due, in this order: validate, log, save a checkpoint, generate
samples, compute scores. At the end, it makes the strips and the report.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from ddpmkit.checkpoint import Checkpoint
from ddpmkit.contracts import RunEnded, RunStarted, StepRecord
from ddpmkit.device_program import NotCapturable, only_once
from ddpmkit.display import Display
from ddpmkit.errors import error_text
from ddpmkit.experiment.build import RunParts
from ddpmkit.experiment.ema_snapshots import Snapshots
from ddpmkit.experiment.evaluation import Evaluation
from ddpmkit.experiment.failures import explain_failures
from ddpmkit.experiment.metrics import metric_names
from ddpmkit.experiment.nonfinite import NonfinitePolicy
from ddpmkit.experiment.outputs import RunOutputs, is_due
from ddpmkit.experiment.saving import Saver
from ddpmkit.experiment.stop_requests import Interruptible, Stopped
from ddpmkit.experiment.weights import TrainerWeights
from ddpmkit.interrupts import is_interrupt
from ddpmkit.run_folder import RunFolder
from ddpmkit.score_log import read_scores
from ddpmkit.tracking import EventDispatcher
from ddpmkit.training.state import part_names, restore
from ddpmkit.training.trainer import NotFinite, StepOutcome, Trainer
from ddpmkit.training.validation import validation_loss

__all__ = ["Session"]

_log = logging.getLogger(__name__)


class Session:
    """A run in progress."""

    def __init__(
        self,
        parts: RunParts,
        folder: RunFolder,
        events: EventDispatcher,
        display: Display,
        stop: Callable[[], bool],
    ) -> None:
        """`stop` is called before every training step and between units of other work."""
        self._parts, self._folder, self._events, self._display, self._stop = parts, folder, events, display, stop
        model = parts.model
        self._recipe, self._log = model.recipe, folder.log
        self._objective = model.objective()
        self._evaluations = [Evaluation.of(built, model, parts.images) for built in parts.metrics]
        names = [each.built.name for each in self._evaluations]
        self._skipped_metrics = tuple(name for name in metric_names(self._recipe) if name not in names)
        self._trainer = Trainer(
            model.network, self._objective, parts.images, self._recipe.train, refused=only_once(self._report_uncaptured)
        )
        for average in self._trainer.averages.values():
            # Before any use: a validation must not depend on whether a sample came first.
            model.runtime.prepare(average.network)
        self._saver = Saver(
            self._trainer, folder, self._log, display.message, self._is_checkpoint_step, self._best_step
        )
        self._outputs = RunOutputs(
            model,
            folder,
            parts.images,
            self._evaluations,
            self._skipped_metrics,
            TrainerWeights(self._trainer, self._saver.wait),
            events,
            Interruptible(display, stop),
        )
        self._nonfinite_policy = NonfinitePolicy(
            self._trainer,
            self._saver,
            folder,
            display.message,
            self._restore,
            is_checkpoint_step=self._is_checkpoint_step,
        )
        self._trainer.on_skip = self._nonfinite_policy.record_skip

    def run(self, checkpoint: Checkpoint | None) -> RunEnded:
        """Run from `checkpoint` (None: from the start) until the recipe's last step, or until `stop()` is true.

        Raises the error that ended the run early, after `run_ended` was sent.
        """
        self._restore(checkpoint)
        self._events.run_started(
            RunStarted(
                name=self._recipe.name,
                folder=self._folder.path,
                recipe=self._recipe.as_data(),
                parameters=self._parts.model.parameters,
                first_step=self._trainer.step,
                last_step=self._recipe.train.steps,
                evaluations={each.built.name: each.built.part.settings.every for each in self._evaluations},
                skipped_metrics=self._skipped_metrics,
            )
        )
        for scores in self._outputs.scores:
            # The earlier process may have logged these scores and then been killed before it sent them to the trackers.
            if scores.step == self._trainer.step and scores.origin == "run":
                self._events.scores(scores)
        try:
            with (
                torch.enable_grad(),
                self._parts.model.runtime.settings(),
                explain_failures("running", self._recipe),
            ):
                finished = self._train_and_finish()
        except BaseException as error:
            interrupted = is_interrupt(error)
            ended = RunEnded(self._trainer.step, "stopped" if interrupted else "failed")
            self._events.run_ended(ended, stop=self._stop, interrupted=interrupted)
            raise
        ended = RunEnded(self._trainer.step, "finished" if finished else "stopped", tuple(self._outputs.problems))
        self._events.run_ended(ended, stop=self._stop)
        return ended

    def _train_and_finish(self) -> bool:
        """Return True if the run finished, False if it was stopped."""
        try:
            # The previous process may have ended before it made all outputs of this step.
            is_changed = self._outputs.make_due(self._trainer.step)
            self._train()
            self._outputs.finish(is_changed=is_changed)
            self._saver.finish()
        except Stopped:
            self._settle_for_resume()
            self._save(must_succeed=True)
            return False
        except BaseException as error:
            self._save_before_failure(is_interrupted=is_interrupt(error))
            raise
        return True

    def _train(self) -> None:
        train, trainer = self._recipe.train, self._trainer
        if train.on_nonfinite == "rollback" and self._saver.saved_step is None:
            self._save()  # a checkpoint to roll back to
        images, seconds = 0, 0.0
        while trainer.step < train.steps:
            if self._stop():
                raise Stopped
            started = time.perf_counter()
            outcome = self._take_step()
            images, seconds = images + train.batch_size, seconds + time.perf_counter() - started
            validate = self._is_due(train.validate_every)
            if outcome is not None and (validate or self._is_due(train.log_every)):
                self._record(outcome, images / seconds, validate=validate)
                images, seconds = 0, 0.0
            if self._is_snapshot_step(trainer.step):
                self._save_snapshot()
            if trainer.step == train.steps:
                # Strips and report of an earlier, shorter run are out of date. They are removed before the last
                # checkpoint is saved, because a process that resumes from that checkpoint would keep them.
                self._folder.remove_final_files()
            if self._is_checkpoint_step(trainer.step):
                self._save(must_succeed=trainer.step == train.steps)
            self._outputs.make_due(trainer.step)

    def _take_step(self) -> StepOutcome | None:
        """Take a training step. Return its outcome if the run needs it now; None if not, or if it was not finite."""
        step = self._trainer.step + 1
        try:
            with explain_failures(f"training step {step}", self._recipe):
                self._trainer.train_step()
            if not self._needs_outcome(step):
                return None
            # Work that a device does later may fail here.
            with explain_failures(f"computing the training steps up to {step}", self._recipe):
                return self._trainer.settle()
        except NotFinite as error:
            self._nonfinite_policy.apply(error)
            return None

    def _needs_outcome(self, step: int) -> bool:
        """Return whether the run logs, saves, samples or evaluates after `step`, and so must wait for the device."""
        train = self._recipe.train
        return (
            any(self._is_due(each, step) for each in (train.log_every, train.validate_every, train.sample_every))
            or self._is_snapshot_step(step)
            or self._is_checkpoint_step(step)
            or self._is_evaluated(step)
        )

    def _report_uncaptured(self, error: Exception) -> None:
        """Say that the steps run without a CUDA graph, which is only slower."""
        reason = str(error) if isinstance(error, NotCapturable) else error_text(error)
        self._display.message(f"the training step runs without a CUDA graph, which may be slower: {reason}")

    def _record(self, outcome: StepOutcome, images_per_second: float, *, validate: bool) -> None:
        loss = None
        if validate:
            with explain_failures(f"validating step {self._trainer.step}", self._recipe):
                loss = validation_loss(self._trainer.averaged_network(), self._objective, self._parts.validation_images)
        if loss is not None and not math.isfinite(loss):
            self._nonfinite_policy.record_validation_loss(self._trainer.step, loss)
            loss = None
        record = StepRecord(
            step=self._trainer.step,
            loss=outcome.loss,
            loss_by_quarter=self._trainer.loss_by_quarter.take(),
            gradient_norm=outcome.gradient_norm,
            learning_rate=outcome.learning_rate,
            images_per_second=images_per_second,
            validation_loss=loss,
        )
        # The log is written even if trackers fail.
        self._log.append("step", asdict(record))
        self._events.step(record)

    def _save(self, *, must_succeed: bool = False) -> None:
        try:
            self._saver.save(must_succeed=must_succeed)
        except NotFinite as error:
            self._nonfinite_policy.apply(error)

    def _save_snapshot(self) -> None:
        try:
            self._saver.save_snapshot()
        except NotFinite as error:
            self._nonfinite_policy.apply(error)

    def _save_before_failure(self, *, is_interrupted: bool) -> None:
        """Save the steps before a failure, unless the failure interrupted an update of the weights.

        An interrupt must end the process quickly: only the checkpoint that is being written is finished.
        """
        try:
            if is_interrupted or self._trainer.is_updating:
                self._saver.wait()
            else:
                self._settle_for_resume()
                self._saver.save(must_succeed=True)
        except Exception as error:  # do not hide the first error
            _log.debug("the state at step %d was not saved: %s", self._trainer.step, error_text(error))

    def _settle_for_resume(self) -> None:
        """Wait for the queued steps. A resumed run takes a step that was not finite again, and reports it."""
        with contextlib.suppress(NotFinite):
            self._trainer.settle()

    def _restore(self, checkpoint: Checkpoint | None) -> None:
        """Restore the trainer, the log and the samples to `checkpoint`; None: to the start."""
        if checkpoint is not None:
            tensors = {name: checkpoint.tensors(name) for name in part_names(self._trainer)}
            restore(self._trainer, checkpoint.step, tensors)
            self._saver.saved_step = checkpoint.step
        step = self._trainer.step
        self._log.keep(lambda record: bool(record["step"] <= step))
        self._outputs.scores = read_scores(self._log)
        self._events.wait_briefly()
        self._folder.remove_grids_after(step)
        Snapshots(self._folder.snapshots).remove_after(step)

    def _is_due(self, every: int, step: int | None = None) -> bool:
        return is_due(every, self._trainer.step if step is None else step, self._recipe.train.steps)

    def _is_checkpoint_step(self, step: int) -> bool:
        """Return whether an uninterrupted run saves a checkpoint after `step`. Rollbacks use only these."""
        train = self._recipe.train
        return (
            step == 0
            or self._is_due(train.checkpoint_every, step)
            or (bool(train.keep_best) and self._is_evaluated(step))
        )

    def _is_evaluated(self, step: int) -> bool:
        return any(self._is_due(each.built.part.settings.every, step) for each in self._evaluations)

    def _is_snapshot_step(self, step: int) -> bool:
        train = self._recipe.train
        # The run may be at step 0 again after a rollback.
        return (
            step > 0
            and bool(train.ema_sigma_rels and train.ema_snapshot_every)
            and step % train.ema_snapshot_every == 0
        )

    def _best_step(self, steps: Sequence[int]) -> int | None:
        return self._outputs.best_step(steps)
