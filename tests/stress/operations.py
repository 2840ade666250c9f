"""Kill a process before its n-th change of the files in a folder.

The interpreter reports each change to an audit hook before it happens: a file opened for writing, renamed or deleted, a
folder created. It does not report writes to an open file; `failpoints.py` covers these for checkpoints.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["counted", "operations"]

_PATHS = {
    "open": (0,),
    "os.chmod": (0,),
    "os.link": (0, 1),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
}
"""The arguments of each audit event that are paths."""
_FOLDERS = {"os.link": (2, 3), "os.mkdir": (2,), "os.remove": (1,), "os.rename": (2, 3), "os.rmdir": (1,)}
"""The arguments that are the open folders of relative paths; -1 is the current folder."""


class _Hook:
    """Writes a line for each change, and kills the process before change number `fatal`, counted from 0."""

    def __init__(self, watched: Path, record: Path, fatal: int | None) -> None:
        self._watched, self._fatal, self._passed = f"{watched}/", fatal, 0
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._lock = threading.Lock()  # another thread writes checkpoints

    def __call__(self, event: str, arguments: Sequence[Any]) -> None:
        if event not in _PATHS or (event == "open" and not _writes(arguments[2])):
            return
        folders = [arguments[place] for place in _FOLDERS.get(event, ())] or [-1]
        paths = [_absolute(arguments[place], folder) for place, folder in zip(_PATHS[event], folders, strict=False)]
        inside = [path.removeprefix(self._watched) for path in paths if path.startswith(self._watched)]
        if not inside:
            return
        with self._lock:
            os.write(self._record, f"{event} {' '.join(inside)}\n".encode())
            if self._passed == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            self._passed += 1


def counted(arguments: list[str], watched: Path, record: Path, output: Path, fatal: int | None) -> None:
    """Run `ddpmkit ARGUMENTS` in this process, and kill it before change number `fatal` in `watched`; None: never.

    Call this in a separate process, because an audit hook cannot be removed.
    """
    from ddpmkit.cli import main

    with output.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.addaudithook(_Hook(watched, record, fatal))
    main(arguments)


def operations(record: Path) -> list[str]:
    """Return the changes that a process made. For a killed process, the last one is the change before which it died."""
    return record.read_text(encoding="utf-8").splitlines()


def _writes(flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def _absolute(path: str | bytes | os.PathLike[str] | int, folder: int) -> str:
    """Return the absolute path; empty for an open file, whose name does not change."""
    if isinstance(path, int):
        return ""
    base = str(Path.cwd()) if folder == -1 else str(Path(f"/proc/self/fd/{folder}").readlink())
    return os.path.normpath(os.path.join(base, os.fsdecode(path)))  # noqa: PTH118 -- nothing may touch the disk here
