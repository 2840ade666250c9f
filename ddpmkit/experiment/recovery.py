"""What is done about a loss, a gradient or a weight that is no finite number: stop, skip the batch, or go back.

It does not know how it was found.
"""

import contextlib
from collections.abc import Callable

from ddpmkit.checkpoint import Checkpoint, resumable_checkpoint
from ddpmkit.errors import DdpmkitError, RunFailed
from ddpmkit.experiment.saving import Saver
from ddpmkit.run_folder import RunFolder
from ddpmkit.training.trainer import NotFinite, Trainer

__all__ = ["Recovery"]


class Recovery:
    """`train.on_nonfinite`, for one trainer."""

    def __init__(
        self,
        trainer: Trainer,
        saver: Saver,
        folder: RunFolder,
        remark: Callable[[str], None],
        restore: Callable[[Checkpoint], None],
        is_regular: Callable[[int], bool],
    ) -> None:
        """`remark` is told what was done; `restore` puts the whole run back to a checkpoint.

        `is_regular` says whether a run that is never stopped saves a checkpoint after this step.
        """
        self._trainer, self._saver, self._folder = trainer, saver, folder
        self._remark, self._restore, self._is_regular = remark, restore, is_regular

    def recover(self, error: NotFinite) -> None:
        """Do what the recipe says, and write it down. Raises RunFailed when that is to stop, or has become so."""
        policy = self._trainer.settings.on_nonfinite
        back = self._way_back() if policy == "rollback" else None
        if back is not None:
            rollbacks = self._trainer.rollbacks + 1
            self._saver.forget_after(back.step)
            self._restore(back)
            # One rollback more than that checkpoint counted: the same batches would fail in the same way.
            self._trainer.rollbacks = rollbacks
            self._note(error, f"went back to step {back.step}, to go on with other batches")
        elif policy == "skip" and self._may_skip(error):
            self._trainer.skip_step()
            self._note(error, "passed over the batch")
        else:
            self._note(error, "stopped")
            with contextlib.suppress(DdpmkitError, NotFinite):
                self._saver.save(is_last_chance=True)
            raise RunFailed(
                f"{_told(error)}. The weights before are kept; the images and timesteps are in "
                f"{self._folder.incidents.path}.",
                remedies=[
                    'train.on_nonfinite = "skip" passes over such a batch, "rollback" goes back to the last checkpoint '
                    "and on with other batches",
                    "a smaller train.learning_rate, train.gradient_clip = 1.0, or train.warmup_steps = 500: as another "
                    "run, or with --accept-changes",
                ],
            ) from error

    def note_validation(self, step: int, loss: float) -> None:
        """Write down a validation loss that is none: the weights were finite, so that training may still mend it."""
        self._folder.incidents.append("nonfinite", {"step": step, "validation_loss": str(loss), "done": "went on"})
        self._remark(f"step {step}: the validation loss is {loss}, and was left out of the log")

    def _may_skip(self, error: NotFinite) -> bool:
        """A weight that is not finite stays so whatever is skipped."""
        return "tensor" not in error.facts and self._trainer.skipped < self._trainer.settings.nonfinite_limit

    def _way_back(self) -> Checkpoint | None:
        """The last regular checkpoint, unless the run went back to it too often already.

        Not the one of a stop: with it, a run that is stopped and resumed would go back to another step than one that
        is not. Only a folder without any regular checkpoint leaves no choice (`rollback` is new in its recipe).
        """
        self._saver.wait()
        checkpoint = resumable_checkpoint(self._folder.checkpoints, self._is_regular) or resumable_checkpoint(
            self._folder.checkpoints
        )
        if checkpoint is None:
            return None
        taken = self._trainer.rollbacks - int(checkpoint.tensors("progress")["detours"])
        return checkpoint if taken < self._trainer.settings.nonfinite_limit else None

    def _note(self, error: NotFinite, done: str) -> None:
        self._folder.incidents.append("nonfinite", {**error.facts, "done": done})
        if done != "stopped":
            self._remark(f"{_told(error)}; {done}")


def _told(error: NotFinite) -> str:
    facts = error.facts
    if "tensor" in facts:
        return f"step {facts['step']}: {facts['tensor']} of {facts['part']} is not finite, and was not saved"
    return f"step {facts['step']}: the loss is {facts['loss']} and the gradient norm {facts['gradient_norm']}"
