"""Applies `train.on_nonfinite` to a loss, gradient or weight that is NaN or infinity: stop, skip, or roll back."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ddpmkit.checkpoint import Checkpoint, resumable_checkpoint
from ddpmkit.errors import DdpmkitError, RunFailed
from ddpmkit.experiment.saving import Saver
from ddpmkit.run_folder import RunFolder
from ddpmkit.training.trainer import NotFinite, Trainer

__all__ = ["NonfinitePolicy"]


class NonfinitePolicy:
    """Stops, skips or rolls back one trainer, as `train.on_nonfinite` states."""

    def __init__(
        self,
        trainer: Trainer,
        saver: Saver,
        folder: RunFolder,
        message: Callable[[str], None],
        restore: Callable[[Checkpoint], None],
        is_checkpoint_step: Callable[[int], bool],
    ) -> None:
        """`message` is called with a text that states what was done; `restore` restores the run to a checkpoint.

        `is_checkpoint_step` returns whether an uninterrupted run saves a checkpoint after this step.
        """
        self._trainer, self._saver, self._folder = trainer, saver, folder
        self._message, self._restore, self._is_checkpoint_step = message, restore, is_checkpoint_step

    def apply(self, error: NotFinite) -> None:
        """Roll back if the policy is "rollback", and record it. Raises RunFailed otherwise, or if the limit is reached.

        With the policy "skip", the trainer itself skips steps, up to the limit.
        """
        policy = self._trainer.settings.on_nonfinite
        checkpoint = self._rollback_target() if policy == "rollback" else None
        if checkpoint is not None:
            rollbacks = self._trainer.rollbacks + 1
            self._saver.remove_after(checkpoint.step)
            self._restore(checkpoint)
            # The checkpoint contains the old count. With it, the same batches would be used again and fail again.
            self._trainer.rollbacks = rollbacks
            self._record(error, f"rolled back to step {checkpoint.step}; training continues with other batches")
        else:
            self._record(error, "stopped")
            raise self._save_and_explain(error) from error

    def record_skip(self, error: NotFinite) -> None:
        """Record a step that was skipped because it was not finite."""
        self._record(error, "skipped the batch")

    def record_validation_loss(self, step: int, loss: float) -> None:
        """Record a validation loss of NaN or infinity. The weights are finite, so training may still recover."""
        self._folder.incidents.append("nonfinite", {"step": step, "validation_loss": str(loss), "done": "continued"})
        self._message(f"step {step}: the validation loss is {loss}, and was left out of the log")

    def _save_and_explain(self, error: NotFinite) -> RunFailed:
        """Save the weights before the step if they are finite, and return the error that ends the run."""
        step, weights_are_finite = self._trainer.step, True
        sentences = [f"{_description(error)}.", *self._reached_limit(error)]
        try:
            self._saver.save(must_succeed=True)
            sentences.append(f"The weights after step {step} are saved.")
        except NotFinite as weight:
            weights_are_finite = False
            if weight.facts != error.facts:
                tensor, part = weight.facts["tensor"], weight.facts["part"]
                sentences.append(f"The weights after step {step} are not saved: {tensor} of {part} is not finite.")
            sentences.append(self._last_checkpoint())
        except DdpmkitError as failure:
            sentences += [f"The weights after step {step} are not saved: {failure.message}", self._last_checkpoint()]
        if "images" in error.facts:
            sentences.append(f"The images and timesteps of the step are in {self._folder.incidents.path}.")
        return RunFailed(
            " ".join(sentences),
            remedies=[
                *self._other_policies(weights_are_finite=weights_are_finite),
                "a smaller train.learning_rate, train.gradient_clip = 1.0, or train.warmup_steps = 500: as another "
                "run, because the saved weights may have diverged already, or with --accept-changes",
            ],
        )

    def _reached_limit(self, error: NotFinite) -> list[str]:
        """Return a sentence if the policy has reached its limit."""
        settings = self._trainer.settings
        limit = f"as often as train.nonfinite_limit = {settings.nonfinite_limit} allows."
        if settings.on_nonfinite == "skip" and "tensor" not in error.facts:
            return [f"The batches before were skipped in a row, {limit}"]
        if settings.on_nonfinite == "rollback" and self._saver.saved_step is not None:
            return [f"The run has returned to its last checkpoint {limit}"]
        return []

    def _last_checkpoint(self) -> str:
        step = self._saver.saved_step
        return "There is no checkpoint." if step is None else f"The last checkpoint is that of step {step}."

    def _other_policies(self, *, weights_are_finite: bool) -> list[str]:
        """Return a remedy for each other policy that can help. Skipping a batch does not make a weight finite."""
        policy, remedies = self._trainer.settings.on_nonfinite, []
        if policy != "skip" and weights_are_finite:
            remedies.append('set train.on_nonfinite = "skip" to skip such a batch')
        if policy != "rollback":
            remedies.append(
                'set train.on_nonfinite = "rollback" to return to the last checkpoint and continue with other batches'
            )
        return remedies

    def _rollback_target(self) -> Checkpoint | None:
        """Return the last regular checkpoint; None if the run was rolled back to it too often already.

        A checkpoint that was saved because of a stop is irregular: an uninterrupted run does not have it, and would be
        rolled back to another step. It is used only if there is no regular checkpoint, which happens if `rollback` is
        new in the recipe.
        """
        self._saver.wait()
        checkpoint = resumable_checkpoint(self._folder.checkpoints, self._is_checkpoint_step) or resumable_checkpoint(
            self._folder.checkpoints
        )
        if checkpoint is None:
            return None
        # "detours" is the number of rollbacks: see `ddpmkit.training.state`.
        done = self._trainer.rollbacks - int(checkpoint.tensors("progress")["detours"])
        return checkpoint if done < self._trainer.settings.nonfinite_limit else None

    def _record(self, error: NotFinite, done: str) -> None:
        self._folder.incidents.append("nonfinite", {**_as_json(error.facts), "done": done})
        if done != "stopped":
            self._message(f"{_description(error)}; {done}")


def _description(error: NotFinite) -> str:
    facts = error.facts
    if "tensor" in facts:
        return f"step {facts['step']}: {facts['tensor']} of {facts['part']} is not finite, and was not saved"
    return f"step {facts['step']}: the loss is {facts['loss']:.4g} and the gradient norm {facts['gradient_norm']:.4g}"


def _as_json(value: Any) -> Any:
    """Return facts with NaN and infinity as texts, because JSON has no such numbers."""
    if isinstance(value, Mapping):
        return {name: _as_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
