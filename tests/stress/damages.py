"""Ways to damage a file or a folder of a run."""

import contextlib
import ctypes
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

__all__ = ["DAMAGES", "damage", "obey_permissions"]

_CAP_VERSION_3 = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: include/uapi/linux/capability.h
_LARGE = 2**31

_Change = Callable[[Path, Path], None]
"""Damages the first path; the second is a free path outside the run."""


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _content(content: Callable[[bytes], bytes]) -> _Change:
    def change(path: Path, _outside: Path) -> None:
        before = path.read_bytes() if path.is_file() else b""
        _removed(path)
        path.write_bytes(content(before))

    return change


def _made(make: Callable[[Path], object]) -> _Change:
    def change(path: Path, _outside: Path) -> None:
        _removed(path)
        make(path)

    return change


def _bound(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:  # the path of a socket must be short
        server.bind(path.name)


def _linked(path: Path, outside: Path) -> None:
    shutil.move(path, outside)
    path.symlink_to(outside)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(_LARGE)


DAMAGES: dict[str, _Change] = {
    "absent": _made(lambda path: None),
    "empty": _content(lambda content: b""),
    "a folder": _made(Path.mkdir),
    "a pipe": _made(os.mkfifo),
    "a socket": _made(_bound),
    "an endless device": _made(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": _made(lambda path: path.symlink_to(path.name)),
    "a link to nothing": _made(lambda path: path.symlink_to("nothing/there")),
    "a link to outside": _linked,
    "not UTF-8": _content(lambda content: b"\xff\xfe\xc3\x28\n" * 3),
    "another shape": _content(lambda content: b'[{"event": "step"}]\n{"event": "step", "step": 1}\n7\n'),
    "another shape of TOML": _content(lambda content: b'train = 1\ndata = "cat"\nlock = []\nname = 1.5\n'),
    "cut inside a letter": _content(lambda content: content[: len(content) * 2 // 3] + b"\xc3"),
    "two halves": _content(lambda content: content[len(content) // 2 :] + content[: len(content) // 2]),
    "nested without end": _content(lambda content: b"[" * 200_000),
    "very large": _made(_sparse),
    "no permission": lambda path, outside: path.chmod(0),
}
"""The kinds of damage to a file, or to a folder with its content."""


def obey_permissions() -> None:
    """Drop root's right to open every file, permanently for this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) == 0:
        data[0] &= ~_OVERRIDES  # effective
        data[1] &= ~_OVERRIDES  # permitted
        libc.capset(header, data)


def damage(kind: str, path: Path, outside: Path) -> None:
    """Damage the file or folder at `path`; `outside` is a free path outside the run."""
    DAMAGES[kind](path, outside)
