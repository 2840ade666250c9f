"""One run from its first step, or its last checkpoint, to its last picture.

Holds the order of things: step, validate, record, checkpoint, samples, scores, and at the end pictures and the report.
It does not know how any of them is done.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

from ddpmkit.checkpoint import Checkpoint, save_checkpoint
from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.data.images import ImageSource
from ddpmkit.experiment.assembly import BuiltMetric, Model
from ddpmkit.experiment.outcomes import draw_samples, evaluate
from ddpmkit.report import write_report
from ddpmkit.rundir import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.visualize import visualize
from ddpmkit.tracking import Audience, Display
from ddpmkit.training.state import restore, state_tensors
from ddpmkit.training.trainer import StepOutcome, Trainer
from ddpmkit.training.validation import validation_loss

__all__ = ["Session"]


class Session:
    """A run in progress."""

    def __init__(
        self,
        model: Model,
        folder: RunFolder,
        images: ImageSource,
        held_out: ImageSource,
        metrics: list[BuiltMetric],
        audience: Audience,
        display: Display,
    ) -> None:
        """Everything is built; nothing has begun."""
        self.model, self.folder, self.images, self.held_out = model, folder, images, held_out
        self.metrics, self.audience, self.display = metrics, audience, display
        self.recipe = model.recipe
        self.loss = model.loss()
        self.trainer = Trainer(model.network, model.process, self.loss, images, self.recipe.train, model.runtime)

    def run(self, checkpoint: Checkpoint | None, stop: Callable[[], bool]) -> RunEnded:
        """Go on from `checkpoint` (None: from the start) until the recipe's last step or until `stop()` is true.

        Raises whatever ended the run early, after the audience has been told.
        """
        if checkpoint is not None:
            parts = {name: checkpoint.tensors(name) for name in ("model", "ema", "optimizer", "progress")}
            restore(self.trainer, checkpoint.step, parts)
        self.folder.forget_after(self.trainer.step)
        steps = self.recipe.train.steps
        self.audience.run_started(
            RunStarted(
                name=self.recipe.name,
                folder=self.folder.path,
                recipe=self.recipe.as_data(),
                parameters=self.model.parameters,
                first_step=self.trainer.step,
                last_step=steps,
            )
        )
        try:
            with self.model.runtime.repeatable():
                already = self.trainer.step == steps and self.folder.report.exists()
                finished = self._train(stop)
                if finished and not already:
                    self._finish()
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            self.audience.run_ended(RunEnded(self.trainer.step, "stopped" if stopped else "failed"))
            raise
        ended = RunEnded(self.trainer.step, "finished" if finished else "stopped")
        self.audience.run_ended(ended)
        return ended

    def _train(self, stop: Callable[[], bool]) -> bool:
        """True when the last step was reached, False when asked to stop before."""
        train, trainer = self.recipe.train, self.trainer
        # What was due at the step we resume from may have been cut off: whatever of it is missing is made now.
        self._intervals(trainer.step)
        counted, seconds = 0, 0.0
        while trainer.step < train.steps:
            if stop():
                self._checkpoint()
                return False
            started = time.perf_counter()
            outcome = trainer.train_step()
            counted, seconds = counted + train.batch_size, seconds + time.perf_counter() - started
            validate = self._due(train.validate_every)
            if validate or self._due(train.log_every):
                self._record(outcome, counted / seconds, validate=validate)
                counted, seconds = 0, 0.0
            if self._due(train.checkpoint_every):
                self._checkpoint()
            self._intervals(trainer.step)
        return True

    def _due(self, every: int, step: int | None = None) -> bool:
        """Every so many steps, and after the last; 0 means only after the last."""
        step = self.trainer.step if step is None else step
        return step > 0 and (step == self.recipe.train.steps or (every > 0 and step % every == 0))

    def _record(self, outcome: StepOutcome, images_per_second: float, *, validate: bool) -> None:
        held_out = None
        if validate:
            held_out = validation_loss(
                self.trainer.averaged(), self.model.process, self.loss, self.held_out, self.model.runtime
            )
        record = StepRecord(
            step=self.trainer.step,
            loss=outcome.loss,
            loss_by_quarter=self.trainer.by_quarter.take(),
            gradient_norm=outcome.gradient_norm,
            learning_rate=outcome.learning_rate,
            images_per_second=images_per_second,
            validation_loss=held_out,
        )
        # The log is written whatever the trackers do, and a log that cannot be written stops the run.
        self.folder.append("step", asdict(record))
        self.audience.step(record)

    def _checkpoint(self) -> None:
        self.folder.sync_log()
        save_checkpoint(self.folder.checkpoints, self.trainer.step, state_tensors(self.trainer), self.folder.lock)

    def _intervals(self, step: int) -> None:
        """Samples and scores that are due after `step` and not there yet."""
        if self._due(self.recipe.train.sample_every, step) and not self.folder.samples(step).exists():
            settings, seed = self.recipe.sampler.settings, self.recipe.train.seed
            generator = self._generator(settings.weights)
            path = draw_samples(generator, self.folder, settings.count, seed, step, self.display)
            self.audience.picture(Picture(step, "samples", path))
        for built in self.metrics:
            if self._due(built.part.settings.every, step) and not self._scored(built, step):
                scores = self._evaluate(built, step)
                self.folder.append("scores", asdict(scores))
                self.audience.scores(scores)

    def _scored(self, built: BuiltMetric, step: int) -> bool:
        wanted = (step, built.name, built.metric.protocol.name)
        return any(
            (record["step"], record["metric"], record["protocol"]) == wanted for record in self.folder.records("scores")
        )

    def _evaluate(self, built: BuiltMetric, step: int) -> Scores:
        generator = self._generator(built.metric.protocol.weights)
        return evaluate(built, generator, self.images, step, self.recipe.train.seed, self.display)

    def _generator(self, weights: str) -> ImageGenerator:
        return self.model.generator(self.trainer.averaged() if weights == "ema" else self.trainer.network)

    def _finish(self) -> None:
        """The pictures of both processes and the page."""
        generator = self._generator(self.recipe.sampler.settings.weights)
        step, seed = self.trainer.step, self.recipe.train.seed
        for picture in visualize(generator, self.images, self.folder, step, seed, self.display):
            self.audience.picture(picture)
        write_report(self.folder.path)
