"""Kill a process at the n-th touch of the disk within a save, whatever calls the save is made of.

The interpreter's own profiler tells of every call into C, before and after: fsync, rename, write, the writer of
safetensors. So a stage that is added to a save later is a failpoint at once. It does not know how a save works.
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

_TOUCHES = frozenset(
    """copy_file_range fdatasync fsync ftruncate link mkdir remove rename replace rmdir sendfile serialize_file symlink
    truncate unlink write writelines""".split()  # noqa: SIM905 -- words to be read as such
)
_IN_MEMORY = (str, bytes, bytearray, list, set, deque)
_SAVE = save_checkpoint.__code__


class _Failpoints:
    """A profile function that counts the touches within a save, and kills the process at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.fatal, self.passed = fatal, 0
        self.saving = False
        self._lock = threading.Lock()  # a save may have threads of its own

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event in ("call", "return") and frame.f_code is _SAVE:
            self.saving = event == "call"
        elif self.saving and event in ("c_call", "c_return") and _touches_the_disk(called):
            with self._lock:
                if self.passed == self.fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.passed += 1


def _touches_the_disk(called: Any) -> bool:
    """Texts and lists have a `replace` and a `remove` too, and threads call these as often as chance has it."""
    return called.__name__ in _TOUCHES and not isinstance(getattr(called, "__self__", None), _IN_MEMORY)


class _Until(SilentDisplay):
    """Asks a run to stop once it has recorded step `last`, and then lets `watch` see what it does."""

    def __init__(self, last: int, watch: _Failpoints) -> None:
        self.last, self.watch = last, watch
        self.reached = 0

    def step(self, event: StepRecord) -> None:
        self.reached = event.step

    def asks_to_stop(self) -> bool:
        if self.reached < self.last:
            return False
        _let_watch(self.watch)
        return True


def run_until(last: int, recipe: dict[str, Any], out: Path, fatal: int | None = None) -> None:
    """Start or resume a run that records each step; stop it after step `last`, for which it is saved.

    In that save the process kills itself at touch number `fatal`, from 0; None: never.
    """
    until = _Until(last, _Failpoints(fatal))
    ddpmkit.run(recipe, out, display=until, stop=until.asks_to_stop)


def save_again(run: Path, fatal: int | None = None) -> None:
    """Save the newest checkpoint of a run once more under its own name; `fatal` as above."""
    checkpoint = open_checkpoint(checkpoint_folders(run / "checkpoints")[0])
    parts = {file.stem: load_file(file) for file in checkpoint.path.glob("*.safetensors")}
    _let_watch(_Failpoints(fatal))
    save_checkpoint(run / "checkpoints", checkpoint.step, parts, run / "recipe.lock.toml")


def _let_watch(failpoints: _Failpoints) -> None:
    threading.setprofile(failpoints)
    sys.setprofile(failpoints)
