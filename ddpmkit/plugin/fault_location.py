"""What to do about a fault in a plugin's code: mend it where it stands, if it is one's own, or report it.

It does not know what the plugin was doing.
"""

import errno
import importlib.util
import sys
import traceback
from pathlib import Path
from types import CodeType

from ddpmkit.plugin.plugin_source import FoundPlugin

__all__ = ["own_frame", "place_of_fault", "way_to_mend"]

_WAYS_OUT = {
    frozenset({errno.ENOSPC, errno.EDQUOT}): "free some space on the disk",
    frozenset({errno.ENOLCK}): "use a file system that supports locks",
    frozenset({errno.EROFS}): "use a disk that can be written",
    frozenset({errno.EMFILE, errno.ENFILE}): "allow more open files: `ulimit -n`",
}


def way_to_mend(plugin: FoundPlugin, reference: str, error: BaseException | None = None) -> str:
    """A remedy for what `reference` ("package.module:Name"), which the plugin declares, did wrong."""
    if error is not None and (way := _way_out_of_system(error)) is not None:
        return way
    if not plugin.can_be_edited:
        return f"report it to the authors of {plugin.origin}, which provides it"
    return f"mend {place_of_fault(plugin, error, reference)}"


def _way_out_of_system(error: BaseException) -> str | None:
    """A remedy if the system refused something, which is not a fault of the code that asked for it."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, OSError):
            if "No usable temporary directory" in str(cause):
                return "free some space, or name a folder that can be written in the environment variable TMPDIR"
            for numbers, way in _WAYS_OUT.items():
                if cause.errno in numbers:
                    return way
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def place_of_fault(plugin: FoundPlugin, error: BaseException | None = None, reference: str = "") -> str:
    """`file:line` of the plugin's own code that raised `error`, or else of what declares `reference`."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    if (found := own_frame(plugin, error, reference)) is not None:
        return f"{found[0].co_filename}:{found[1]}"
    manifest = plugin.path or _file(plugin.module)
    line_number = _line(manifest, reference.rpartition(":")[2]) if manifest and reference else None
    return f"{manifest or plugin.module}:{line_number}" if line_number else str(manifest or plugin.module)


def own_frame(plugin: FoundPlugin, error: BaseException | None, reference: str = "") -> tuple[CodeType, int] | None:
    """The code of the plugin that was innermost when `error` was raised, and its line."""
    own = {name.partition(".")[0] for name in (plugin.module, reference.partition(":")[0]) if name}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__ if error else None))):
        if frame.f_globals.get("__name__", "").partition(".")[0] in own:
            return frame.f_code, line
    return None


def _file(module: str) -> Path | None:
    """Where a module lies, which itself may not be importable."""
    try:
        spec = sys.modules[module].__spec__ if module in sys.modules else importlib.util.find_spec(module)
    except Exception:  # the packages around it are imported on the way
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _line(file: Path, name: str) -> int | None:
    """The first line that ends a reference in this name, as in `target="acme.schedule:Zigzag"`."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ()
    return next((number for number, line in enumerate(lines, 1) if f":{name}" in line), None)
