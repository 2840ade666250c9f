"""Names of checkpoint folders: `step-00000100`, with a suffix after a checkpoint was moved aside."""

import re
from pathlib import Path

__all__ = ["checkpoint_folders", "folders_with_replaced", "move_aside", "restore_replaced", "step_of"]

_NAME = re.compile(r"step-(\d{8,})")
_REPLACED = re.compile(r"step-(\d{8,})\.replaced")


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint folder, also of one that was moved aside."""
    return int(folder.name.partition(".")[0].removeprefix("step-"))


def checkpoint_folders(parent: Path) -> list[Path]:
    """Folders that have the name of a checkpoint, newest first; nothing in them is read."""
    return _matching(parent, _NAME)


def folders_with_replaced(parent: Path) -> list[Path]:
    """As `checkpoint_folders`, with each replaced checkpoint whose successor does not exist."""
    return _matching(parent, _NAME, _REPLACED)


def _matching(parent: Path, *names: re.Pattern[str]) -> list[Path]:
    """For each step the folder that matches the first of `names`. Names may change, so `parent` is listed once."""
    listing = sorted(parent.iterdir()) if parent.is_dir() else []
    by_step = {step_of(path): path for name in reversed(names) for path in listing if name.fullmatch(path.name)}
    return [by_step[step] for step in sorted(by_step, reverse=True)]


def move_aside(folder: Path, reason: str) -> Path:
    """Rename a folder to `NAME.REASON`, or to `NAME.REASON-2` and so on if that exists; the new path."""
    aside = folder.with_name(f"{folder.name}.{reason}")
    count = 1
    while aside.exists():
        count += 1
        aside = folder.with_name(f"{folder.name}.{reason}-{count}")
    return folder.rename(aside)


def restore_replaced(parent: Path) -> None:
    """Undo the renaming of a checkpoint that was to be replaced by a new one, if the new one was never completed."""
    for replaced in folders_with_replaced(parent):
        if _REPLACED.fullmatch(replaced.name):
            replaced.rename(replaced.with_suffix(""))
