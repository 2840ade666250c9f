"""Finds the line of a fault in a plugin, and hints the user to fix it or to report it to the authors."""

import errno
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import CodeType

from ddpmkit.plugin.finder import FoundPlugin

__all__ = ["fault_location", "fix_hint", "frame_location"]

_SYSTEM_REMEDIES = {
    frozenset({errno.ENOSPC, errno.EDQUOT}): "free some space on the disk",
    frozenset({errno.ENOLCK}): "use a file system that supports locks",
    frozenset({errno.EROFS}): "use a disk that is writable",
    frozenset({errno.EMFILE, errno.ENFILE}): "allow more open files: `ulimit -n`",
}


def fix_hint(plugin: FoundPlugin, reference: str, error: BaseException | None = None) -> str:
    """Return what to do about a fault in the code that the plugin declares as `reference` (`package.module:Name`)."""
    if error is not None and (remedy := _system_remedy(error)) is not None:
        return remedy
    if not plugin.can_be_edited:
        return f"report it to the authors of {plugin.origin}, which provides it"
    return f"fix {fault_location(plugin, error, reference)}"


def fault_location(plugin: FoundPlugin, error: BaseException | None = None, reference: str = "") -> str:
    """Return `file:line` of the plugin's code that raised `error` or that declares `reference`, or else the file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    if (found := _innermost_frame(plugin, error, reference)) is not None:
        return f"{found[0].co_filename}:{found[1]}"
    manifest = plugin.path or _module_file(plugin.module)
    line = _declaration_line(manifest, reference.rpartition(":")[2]) if manifest and reference else None
    return f"{manifest or plugin.module}:{line}" if line else str(manifest or plugin.module)


def frame_location(plugin: FoundPlugin, error: BaseException | None, reference: str) -> str:
    """Return the innermost frame in the plugin's code, `zigzag/loss.py:31 in __call__`; empty if there is none."""
    if (found := _innermost_frame(plugin, error, reference)) is None:
        return ""
    code, line = found
    path, here = Path(code.co_filename).resolve(), Path.cwd()
    shown = os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
    return f"{shown}:{line} in {code.co_name}"


def _system_remedy(error: BaseException) -> str | None:
    """Return a remedy if the operating system raised `error` or one of its causes: the plugin is not at fault."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, OSError):
            if "No usable temporary directory" in str(cause):
                return "free some space, or set TMPDIR=DIR in the environment to a folder that is writable"
            for numbers, remedy in _SYSTEM_REMEDIES.items():
                if cause.errno in numbers:
                    return remedy
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _innermost_frame(plugin: FoundPlugin, error: BaseException | None, reference: str) -> tuple[CodeType, int] | None:
    """Return the innermost code of the plugin in the traceback of `error`, and its line number."""
    packages = {name.partition(".")[0] for name in (plugin.module, reference.partition(":")[0]) if name}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__ if error else None))):
        if frame.f_globals.get("__name__", "").partition(".")[0] in packages:
            return frame.f_code, line
    return None


def _module_file(module: str) -> Path | None:
    """Return the file of a module, which need not be importable."""
    try:
        spec = sys.modules[module].__spec__ if module in sys.modules else importlib.util.find_spec(module)
    except Exception:  # find_spec imports the parent packages
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _declaration_line(file: Path, name: str) -> int | None:
    """Return the first line that contains a reference to `name`, such as `target="acme.schedule:Zigzag"`."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ()
    return next((number for number, line in enumerate(lines, 1) if f":{name}" in line), None)
