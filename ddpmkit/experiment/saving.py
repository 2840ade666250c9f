"""When the state of a run is on disk, and which of its checkpoints stay there.

It does not know what a checkpoint looks like.
"""

import shutil
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
from ddpmkit.errors import InputError, RunFailed
from ddpmkit.recipe import TrainSection
from ddpmkit.run_folder import RunFolder
from ddpmkit.run_log import RunLog
from ddpmkit.training.state import average_tensors, first_not_finite, state_tensors
from ddpmkit.training.trainer import NotFinite, Trainer

__all__ = ["Saver", "check_space", "copied", "superseded"]


class _Write(NamedTuple):
    """A state that is to be on disk: named parts of tensors that nobody else changes."""

    parent: Path
    step: int
    parts: Mapping[str, Mapping[str, Tensor]]


class Saver:
    """Saves a trainer aside, while it goes on; and the log before it, so that no checkpoint is ahead of its log."""

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        log: RunLog,
        remark: Callable[[str], None],
        is_regular: Callable[[int], bool] = lambda _step: True,
        best_step: Callable[[Sequence[int]], int | None] = lambda _steps: None,
    ) -> None:
        """`remark` is told of a state that could not be written and will be tried again.

        `is_regular` says whether a run that is never stopped saves a checkpoint after this step; `best_step` chooses
        among the steps of checkpoints the one that is kept for its score.
        """
        self._trainer, self._folder, self._log, self._remark = trainer, folder, log, remark
        self._is_regular, self._best_step = is_regular, best_step
        self._writing: Future[list[_Write]] | None = None
        self._unwritten: list[_Write] = []
        """What is being written, and snapshots that the disk did not take."""
        self._failed_before = False
        self.saved_step: int | None = None
        """The step that is on disk; set it when the trainer is restored."""
        clear_leftovers(folder.checkpoints)
        clear_leftovers(folder.snapshots)

    def forget_after(self, step: int) -> None:
        """Remove every state of a later step: the run goes back to `step` and takes other steps from there."""
        self.wait()
        self._unwritten = [write for write in self._unwritten if write.step <= step]
        for folder in checkpoint_folders(self._folder.checkpoints):
            if step_of(folder) > step:
                remove_checkpoint(folder)

    def save(self, *, is_last_chance: bool = False) -> None:
        """Begin to write the trainer's state as it is now; `wait` is when it is on disk. At the last chance both.

        Raises NotFinite rather than save a number that is none. Raises RunFailed when the disk does not take a state
        for the second time in a row, or at the last chance; the checkpoints before stay.
        """
        self.wait()
        step = self._trainer.step
        if step == self.saved_step:
            if is_last_chance:
                self.finish()
            return
        parts = copied(step, state_tensors(self._trainer))
        try:
            self._sync_log()
        except RunFailed as error:
            self._bear(error, is_last_chance)
            return
        self._begin(_Write(self._folder.checkpoints, step, parts))
        if is_last_chance:
            self.wait(is_last_chance=True)

    def save_snapshot(self) -> None:
        """Begin to write the averages that are kept as snapshots, before any checkpoint of the same step.

        Raises NotFinite and RunFailed as `save` does. One that the disk does not take is written before the next state.
        """
        self.wait()
        step = self._trainer.step
        self._begin(_Write(self._folder.snapshots, step, copied(step, average_tensors(self._trainer, ["sigma_rel"]))))

    def finish(self) -> None:
        """Have all on disk, and no checkpoint that is superseded. Raises RunFailed when the disk does not take it."""
        self.wait()
        if self._unwritten:
            self._begin()
        self.wait(is_last_chance=True)
        self._sync_log()
        self._prune()  # a process that was killed after its last save left some; and by now the last scores are known

    def wait(self, *, is_last_chance: bool = False) -> None:
        """Until what is being written is on disk. Raises RunFailed as `save` does."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            written = writing.result()
        except RunFailed as error:
            # A later checkpoint takes the place of one that failed; nothing takes the place of a snapshot.
            self._unwritten = [write for write in self._unwritten if write.parent == self._folder.snapshots]
            self._bear(error, is_last_chance)
            return
        self._failed_before = False
        for write in written:
            if write.parent == self._folder.checkpoints:
                self.saved_step = write.step
                self._prune()

    def _begin(self, *writes: _Write) -> None:
        """In order: a snapshot that is still to be written comes before the checkpoint that needs it."""
        self._unwritten += writes
        aside = ThreadPoolExecutor(1, "checkpoint")
        self._writing = aside.submit(self._write)
        aside.shutdown(wait=False)

    def _write(self) -> list[_Write]:
        written = []
        while self._unwritten:
            write = self._unwritten[0]
            save_checkpoint(write.parent, write.step, write.parts, self._folder.lock)
            written.append(self._unwritten.pop(0))
        return written

    def _bear(self, error: RunFailed, is_last_chance: bool) -> None:
        """A first failure, when there will be another occasion."""
        if is_last_chance or self._failed_before:
            raise error
        self._failed_before = True
        self._remark(f"{error.message} It is tried again at the next interval.")

    def _sync_log(self) -> None:
        try:
            self._log.sync()
        except OSError as error:
            raise RunFailed(
                f"{self._log.path} cannot be written: {error.strerror or error}.",
                remedies=["free some space and give the same command again: it goes on from the last checkpoint"],
            ) from error

    def _prune(self) -> None:
        folders = {step_of(folder): folder for folder in checkpoint_folders(self._folder.checkpoints)}
        settings = self._trainer.settings
        best = self._best_step(sorted(folders))
        for step in superseded(sorted(folders), settings, best, self._is_regular):
            remove_checkpoint(folders[step])


def copied(step: int, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The tensors as they are now, in the memory of the CPU. Raises NotFinite."""
    for part, tensors in parts.items():
        if (name := first_not_finite(tensors)) is not None:
            raise NotFinite({"step": step, "part": part, "tensor": name})
    return {
        part: {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        for part, tensors in parts.items()
    }


def superseded(
    steps: Sequence[int],
    settings: TrainSection,
    best: int | None,
    is_regular: Callable[[int], bool] = lambda _step: True,
) -> list[int]:
    """Which of the checkpoints at `steps` (ascending) the recipe does not keep.

    A run that may roll back keeps the regular ones that it would have if nobody had ever stopped it, and the newest.
    """
    if settings.keep_last == 0:
        return []
    counted = list(filter(is_regular, steps)) if settings.on_nonfinite == "rollback" else steps
    kept = {*counted[-settings.keep_last :], *steps[-1:], best}
    return [
        step for step in steps if step not in kept and not (settings.keep_every and step % settings.keep_every == 0)
    ]


def check_space(folder: Path, parameters: int, settings: TrainSection) -> str | None:
    """What to say of the space for checkpoints: None when there is plenty.

    Raises InputError when not even two fit, the last one and the next.
    """
    widths = len(settings.ema_sigma_rels)
    one = 4 * parameters * (3 + bool(settings.ema_decay) + len(settings.ema_decays) + widths)
    free = shutil.disk_usage(folder).free
    if free < 2 * one:
        raise InputError(
            f"{folder.resolve()} has {_megabytes(free)} free; a checkpoint takes {_megabytes(one)}, and two must fit.",
            remedies=["free some space", "--out DIR names another folder"],
        )
    every = settings.checkpoint_every or settings.steps
    wanted = one * (settings.keep_last + 1 if settings.keep_last else settings.steps // every + 1)
    if widths and settings.ema_snapshot_every:
        wanted += 4 * parameters * widths * (settings.steps // settings.ema_snapshot_every)
    if free < wanted:
        return f"checkpoints may take {_megabytes(wanted)}, and {_megabytes(free)} are free in {folder}"
    return None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
