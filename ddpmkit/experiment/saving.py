"""Saves the state of a run: checkpoints and snapshots are written in a thread while training continues."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ddpmkit.checkpoint import (
    checkpoint_folders,
    clear_leftovers,
    remove_checkpoint,
    save_checkpoint,
    step_of,
)
from ddpmkit.errors import RunFailed
from ddpmkit.experiment.retention import checkpoints_to_remove
from ddpmkit.run_folder import RunFolder
from ddpmkit.run_log import RunLog
from ddpmkit.training.state import average_tensors, first_not_finite, state_tensors
from ddpmkit.training.trainer import NotFinite, Trainer

__all__ = ["Saver", "copy_to_cpu"]


class _Write(NamedTuple):
    """Tensors to write, by part and name. They are copies."""

    parent: Path
    step: int
    parts: Mapping[str, Mapping[str, Tensor]]


class Saver:
    """Saves the state of a trainer while training continues.

    The log is flushed to disk first, so that it contains every step up to the checkpoint.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        log: RunLog,
        message: Callable[[str], None],
        is_checkpoint_step: Callable[[int], bool] = lambda _step: True,
        best_step: Callable[[Sequence[int]], int | None] = lambda _steps: None,
    ) -> None:
        """`message` receives a text if a state could not be written and will be tried again.

        `is_checkpoint_step` returns whether an uninterrupted run saves a checkpoint after this step. `best_step`
        returns the step, of the given ones, whose checkpoint is kept for its score.
        """
        self._trainer, self._folder, self._log, self._message = trainer, folder, log, message
        self._is_checkpoint_step, self._best_step = is_checkpoint_step, best_step
        self._writing: Future[list[_Write]] | None = None
        self._unwritten: list[_Write] = []
        """Writes that are in progress, and snapshots that could not be written."""
        self._failed_before = False
        self.saved_step: int | None = None
        """The step of the last state on disk. Set it when the trainer is restored."""
        clear_leftovers(folder.checkpoints)
        clear_leftovers(folder.snapshots)

    def remove_after(self, step: int) -> None:
        """Remove every checkpoint of a later step, because a run that is rolled back to `step` takes other steps."""
        self.wait()
        self._unwritten = [write for write in self._unwritten if write.step <= step]
        for folder in checkpoint_folders(self._folder.checkpoints):
            if step_of(folder) > step:
                remove_checkpoint(folder)

    def save(self, *, must_succeed: bool = False) -> None:
        """Start to write the trainer's state as it is now; with `must_succeed`, also wait until it is on disk.

        Raises NotFinite instead of saving NaN or infinity, and if a queued step was not finite. Raises RunFailed if
        writing fails twice in a row, or once with `must_succeed`. Earlier checkpoints stay.
        """
        self.wait()
        self._trainer.settle()
        step = self._trainer.step
        if step == self.saved_step:
            if must_succeed:
                self.finish()
            return
        parts = copy_to_cpu(step, state_tensors(self._trainer))
        try:
            self._sync_log()
        except RunFailed as error:
            self._report_or_raise(error, must_succeed)
            return
        self._start(_Write(self._folder.checkpoints, step, parts))
        if must_succeed:
            self.wait(must_succeed=True)

    def save_snapshot(self) -> None:
        """Start to write the snapshot of the averages; it is written before any checkpoint of the same step.

        Raises NotFinite and RunFailed as `save` does. A snapshot that cannot be written is written before the next
        state.
        """
        self.wait()
        self._trainer.settle()
        step = self._trainer.step
        self._start(
            _Write(self._folder.snapshots, step, copy_to_cpu(step, average_tensors(self._trainer, ["sigma_rel"])))
        )

    def finish(self) -> None:
        """Wait until everything is on disk, and remove superseded checkpoints. Raises RunFailed if writing fails."""
        self.wait()
        if self._unwritten:
            self._start()
        self.wait(must_succeed=True)
        self._sync_log()
        # A killed process may have left superseded checkpoints, and now all scores are known.
        self._remove_unneeded_checkpoints()

    def wait(self, *, must_succeed: bool = False) -> None:
        """Wait until the current write is on disk. Raises RunFailed as `save` does."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            written = writing.result()
        except RunFailed as error:
            # A later checkpoint replaces one that failed; nothing replaces a snapshot.
            self._unwritten = [write for write in self._unwritten if write.parent == self._folder.snapshots]
            self._report_or_raise(error, must_succeed)
            return
        self._failed_before = False
        for write in written:
            if write.parent == self._folder.checkpoints:
                self.saved_step = write.step
                self._remove_unneeded_checkpoints()

    def _start(self, *writes: _Write) -> None:
        """Start to write in order: a snapshot that is not written yet comes before the checkpoint that needs it."""
        self._unwritten += writes
        executor = ThreadPoolExecutor(1, "checkpoint")
        self._writing = executor.submit(self._write)
        executor.shutdown(wait=False)

    def _write(self) -> list[_Write]:
        written = []
        while self._unwritten:
            write = self._unwritten[0]
            save_checkpoint(write.parent, write.step, write.parts, self._folder.lock)
            written.append(self._unwritten.pop(0))
        return written

    def _report_or_raise(self, error: RunFailed, must_succeed: bool) -> None:
        """Report a first failure. Raise it if it is the second in a row, or if `must_succeed`."""
        if must_succeed or self._failed_before:
            raise error
        self._failed_before = True
        self._message(f"{error.message} It is tried again at the next interval.")

    def _sync_log(self) -> None:
        try:
            self._log.sync()
        except OSError as error:
            raise RunFailed(
                f"{self._log.path} cannot be written: {error.strerror or error}.",
                remedies=["free some space and run the same command again: it resumes from the last checkpoint"],
            ) from error

    def _remove_unneeded_checkpoints(self) -> None:
        folders = {step_of(folder): folder for folder in checkpoint_folders(self._folder.checkpoints)}
        best = self._best_step(sorted(folders))
        for step in checkpoints_to_remove(sorted(folders), self._trainer.settings, best, self._is_checkpoint_step):
            remove_checkpoint(folders[step])


def copy_to_cpu(step: int, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return copies of the tensors in CPU memory. Raises NotFinite if a tensor contains NaN or infinity."""
    for part, tensors in parts.items():
        if (name := first_not_finite(tensors)) is not None:
            raise NotFinite({"step": step, "part": part, "tensor": name})
    return {
        part: {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        for part, tensors in parts.items()
    }
