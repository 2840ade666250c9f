"""Kill a process at the n-th disk operation of a checkpoint save.

The profiler of the interpreter reports every call into C, before and after: fsync, rename, write, the writer of
safetensors. So a stage that is later added to a save is covered without a change here.
"""

import os
import signal
import sys
import threading
from collections import deque
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors.torch import load_file

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, open_checkpoint, save_checkpoint
from ddpmkit.contracts import StepRecord
from ddpmkit.display import SilentDisplay

__all__ = ["run_until", "save_again"]

_DISK_CALLS = frozenset(
    """copy_file_range fdatasync fsync ftruncate link mkdir remove rename replace rmdir sendfile serialize_file symlink
    truncate unlink write writelines""".split()  # noqa: SIM905 -- easier to read as words
)
_IN_MEMORY = (str, bytes, bytearray, list, set, deque)
_SAVE = save_checkpoint.__code__


class _Failpoints:
    """A profile function that counts the disk calls of a save, and kills the process at call number `fatal`."""

    def __init__(self, fatal: int | None) -> None:
        self.fatal, self.passed = fatal, 0
        self.saving = False
        self._lock = threading.Lock()  # a save may have threads of its own

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event in ("call", "return") and frame.f_code is _SAVE:
            self.saving = event == "call"
        elif self.saving and event in ("c_call", "c_return") and _is_disk_call(called):
            with self._lock:
                if self.passed == self.fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.passed += 1


def _is_disk_call(called: Any) -> bool:
    """Strings and lists have a `replace` and a `remove` too, which threads call at random times."""
    return called.__name__ in _DISK_CALLS and not isinstance(getattr(called, "__self__", None), _IN_MEMORY)


class _StopAfter(SilentDisplay):
    """Requests a stop after step `last`, and then activates the failpoints `watch`."""

    def __init__(self, last: int, watch: _Failpoints) -> None:
        self.last, self.watch = last, watch
        self.reached = 0

    def step(self, event: StepRecord) -> None:
        self.reached = event.step

    def stop_requested(self) -> bool:
        if self.reached < self.last:
            return False
        _activate(self.watch)
        return True


def run_until(last: int, recipe: dict[str, Any], out: Path, fatal: int | None = None) -> None:
    """Start or resume a run that logs each step, and stop it after step `last`, at which it saves a checkpoint.

    In that save the process kills itself at disk call number `fatal`, counted from 0; None: never.
    """
    display = _StopAfter(last, _Failpoints(fatal))
    ddpmkit.run(recipe, out, display=display, stop=display.stop_requested)


def save_again(run: Path, fatal: int | None = None) -> None:
    """Save the newest checkpoint of a run again under its own name; `fatal` as in `run_until`."""
    checkpoint = open_checkpoint(checkpoint_folders(run / "checkpoints")[0])
    parts = {file.stem: load_file(file) for file in checkpoint.path.glob("*.safetensors")}
    _activate(_Failpoints(fatal))
    save_checkpoint(run / "checkpoints", checkpoint.step, parts, run / "recipe.lock.toml")


def _activate(failpoints: _Failpoints) -> None:
    threading.setprofile(failpoints)
    sys.setprofile(failpoints)
