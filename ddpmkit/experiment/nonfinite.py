"""Applies `train.on_nonfinite` to a loss, gradient or weight that is NaN or infinity: stop, skip, or roll back."""

import contextlib
from collections.abc import Callable

from ddpmkit.checkpoint import Checkpoint, resumable_checkpoint
from ddpmkit.errors import DdpmkitError, RunFailed
from ddpmkit.experiment.saving import Saver
from ddpmkit.run_folder import RunFolder
from ddpmkit.training.trainer import NotFinite, Trainer

__all__ = ["NonfinitePolicy"]


class NonfinitePolicy:
    """`train.on_nonfinite`, for one trainer."""

    def __init__(
        self,
        trainer: Trainer,
        saver: Saver,
        folder: RunFolder,
        message: Callable[[str], None],
        restore: Callable[[Checkpoint], None],
        is_checkpoint_step: Callable[[int], bool],
    ) -> None:
        """`message` receives what was done; `restore` restores the run to a checkpoint.

        `is_checkpoint_step` returns whether an uninterrupted run saves a checkpoint after this step.
        """
        self._trainer, self._saver, self._folder = trainer, saver, folder
        self._message, self._restore, self._is_checkpoint_step = message, restore, is_checkpoint_step

    def apply(self, error: NotFinite) -> None:
        """Apply the recipe's policy and record it. Raises RunFailed if the policy is "stop" or its limit is reached."""
        policy = self._trainer.settings.on_nonfinite
        checkpoint = self._rollback_target() if policy == "rollback" else None
        if checkpoint is not None:
            rollbacks = self._trainer.rollbacks + 1
            self._saver.remove_after(checkpoint.step)
            self._restore(checkpoint)
            # The checkpoint has the count at its time. Without the new one, the same batches would fail again.
            self._trainer.rollbacks = rollbacks
            self._record(error, f"rolled back to step {checkpoint.step}, continues with other batches")
        elif policy == "skip" and self._may_skip(error):
            self._trainer.skip_step()
            self._record(error, "skipped the batch")
        else:
            self._record(error, "stopped")
            with contextlib.suppress(DdpmkitError, NotFinite):
                self._saver.save(must_succeed=True)
            raise RunFailed(
                f"{_description(error)}. The weights before this step are saved; the images and timesteps are in "
                f"{self._folder.incidents.path}.",
                remedies=[
                    'train.on_nonfinite = "skip" skips such a batch, "rollback" returns to the last checkpoint and '
                    "continues with other batches",
                    "a smaller train.learning_rate, train.gradient_clip = 1.0, or train.warmup_steps = 500: as another "
                    "run, or with --accept-changes",
                ],
            ) from error

    def record_validation_loss(self, step: int, loss: float) -> None:
        """Record a validation loss of NaN or infinity. The weights are finite, so training may still recover."""
        self._folder.incidents.append("nonfinite", {"step": step, "validation_loss": str(loss), "done": "continued"})
        self._message(f"step {step}: the validation loss is {loss}, and was left out of the log")

    def _may_skip(self, error: NotFinite) -> bool:
        """Skipping batches does not help if a weight is not finite."""
        return "tensor" not in error.facts and self._trainer.skipped < self._trainer.settings.nonfinite_limit

    def _rollback_target(self) -> Checkpoint | None:
        """The last regular checkpoint; None if the run was rolled back to it too often already.

        A checkpoint that was saved because of a stop does not count: an uninterrupted run does not have it, and would
        be rolled back to another step. It is used only if there is no regular checkpoint, which happens if `rollback`
        is new in the recipe.
        """
        self._saver.wait()
        checkpoint = resumable_checkpoint(self._folder.checkpoints, self._is_checkpoint_step) or resumable_checkpoint(
            self._folder.checkpoints
        )
        if checkpoint is None:
            return None
        done = self._trainer.rollbacks - int(checkpoint.tensors("progress")["detours"])
        return checkpoint if done < self._trainer.settings.nonfinite_limit else None

    def _record(self, error: NotFinite, done: str) -> None:
        self._folder.incidents.append("nonfinite", {**error.facts, "done": done})
        if done != "stopped":
            self._message(f"{_description(error)}; {done}")


def _description(error: NotFinite) -> str:
    facts = error.facts
    if "tensor" in facts:
        return f"step {facts['step']}: {facts['tensor']} of {facts['part']} is not finite, and was not saved"
    return f"step {facts['step']}: the loss is {facts['loss']} and the gradient norm {facts['gradient_norm']}"
