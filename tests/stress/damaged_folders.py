"""Damage every file of a run folder in every way, and run every command that reads run folders.

    python tests/stress/damaged_folders.py                          # everything: about 6,000 commands
    python tests/stress/damaged_folders.py --every 50 --command report

A command must end by itself, with success or a readable error: no traceback, no hang. Nothing outside the run folder
may change, and only `run` may change an existing file of the run.
"""

import argparse
import contextlib
import functools
import itertools
import os
import random
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from damages import DAMAGES, damage, obey_permissions
from every_operation import Workspace
from processes import call

__all__ = ["COMMANDS", "Case", "Outcome", "cases", "damage_everything", "finished_run"]

PLUGIN = Path(__file__).with_name("stress_plugin.py")
_STEPS = 6
_TIMEOUT = 300.0
"""Seconds after which a command counts as hanging."""
_TRACES = ("Traceback", "this is a bug")
_WRITERS = ("run", "sweep")

COMMANDS: dict[str, Callable[[Workspace], list[str]]] = {
    "run": lambda place: ["run", str(place.recipe), "--out", str(place.run), "--set", f"train.steps={_STEPS + 2}"],
    "run, finished": lambda place: ["run", str(place.recipe), "--out", str(place.run)],
    "sample": lambda place: ["sample", str(place.run), "-n", "1", "--weights", "sigma_rel=0.12"],
    "interpolate": lambda place: ["interpolate", str(place.run), "0", "1", "-n", "2"],
    "evaluate": lambda place: ["evaluate", str(place.run)],
    "visualize": lambda place: ["visualize", str(place.run)],
    "compare": lambda place: ["compare", str(place.run), str(place.folder / "good")],
    "compare to a page": lambda place: [
        *("compare", str(place.run), str(place.folder / "good")),
        *("--out", str(place.folder / "page.html")),
    ],
    "checkpoint verify": lambda place: ["checkpoint", "verify", str(place.run)],
    "recipe show": lambda place: ["recipe", "show", str(place.run / "recipe.lock.toml")],
    "profile": lambda place: ["profile", str(place.run / "recipe.lock.toml"), "--steps", "1"],
    "sample of a checkpoint": lambda place: [
        "sample",
        str(place.run / "checkpoints" / f"step-{_STEPS:08d}"),
        "-n",
        "1",
    ],
    "report": lambda place: [],
}
"""Every command that reads a run folder. `report` calls the Python function."""


@dataclass(frozen=True)
class Case:
    """One command on one damaged folder."""

    command: str
    file: str
    kind: str


@dataclass
class Outcome:
    """The results of all commands."""

    commands: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)


def finished_run(folder: Path) -> Workspace:
    """Make a finished run with every file that a run can write, and a copy to compare with."""
    place = Workspace(folder)
    place.reset()
    place.finish(COMMANDS["run, finished"](place))
    (place.run / "incidents.jsonl").write_text('{"event": "failed", "step": 1, "doing": "something"}\n')
    (place.run / ".holder.json").write_text('{"pid": 1, "host": "here", "since": "2026-01-01"}')
    shutil.copytree(place.run, place.folder / "good")
    shutil.copytree(place.watched, place.folder / "template")
    return place


def cases(place: Workspace, commands: Sequence[str] = tuple(COMMANDS)) -> list[Case]:
    """Return every combination of a command, a file or folder of the run, and a damage."""
    template = place.folder / "template" / place.run.name
    files = sorted(str(path.relative_to(template)) for path in template.rglob("*"))
    return [Case(*case) for case in itertools.product(commands, files, DAMAGES)]


def damage_everything(
    place: Workspace, chosen: Sequence[Case], report: Callable[[str], None] = lambda _problem: None
) -> Outcome:
    """Try the cases in order. `report` receives each problem immediately."""
    outcome, reported = Outcome(), 0
    for case in chosen:
        _reset(place)
        outside = place.folder / "outside"
        damage(case.kind, place.run / case.file, outside)
        before, outer = _state(place.run), _state(outside)
        place.output.unlink(missing_ok=True)
        exit_code = call(_command, COMMANDS[case.command](place), place, kill_after=_TIMEOUT)
        output = place.output.read_text(errors="replace") if place.output.exists() else ""
        outcome.commands += 1
        outcome.refused += exit_code != 0
        outcome.problems += [f"{case}: {problem}" for problem in _problems(case, exit_code, output)]
        if _state(outside) != outer:
            outcome.problems.append(f"{case}: a file outside the run was changed")
        if not case.command.startswith(_WRITERS):
            after = _state(place.run)
            written = _MAY_CHANGE.get(case.command)
            kept = [name for name in before if written is None or not name.startswith(written)]
            changed = [name for name in kept if after.get(name) != before[name]]
            if changed:
                outcome.problems.append(f"{case}: changed {', '.join(changed)}")
        for problem in outcome.problems[reported:]:
            report(problem)
        reported = len(outcome.problems)
    return outcome


_MAY_CHANGE = {"evaluate": "metrics.jsonl", "report": "report.html", "visualize": "viz/"}
"""Files that a reading command may write in the run folder."""


def _problems(case: Case, exit_code: int, output: str) -> Iterator[str]:
    if exit_code < 0:
        yield f"was killed by signal {-exit_code} after {_TIMEOUT:.0f} s or before:\n{output}"
    elif exit_code not in (0, 1, 2) or any(trace in output for trace in _TRACES):
        yield f"exit code {exit_code}:\n{output}"
    elif exit_code != 0 and not output.strip():
        yield f"exit code {exit_code} without a message"


def _reset(place: Workspace) -> None:
    for path in (place.folder / "outside", place.folder / "page.html"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _make_removable(place.watched)
    place.reset(place.folder / "template")


def _make_removable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return kind, size and inode of each path below a folder, or of a single file."""
    paths = [folder, *folder.rglob("*")] if folder.is_dir() else [folder] if folder.exists() else []
    found = {}
    for path in paths:
        status = path.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        what = (0, 0) if is_folder else (status.st_size, status.st_ino)
        found[str(path.relative_to(folder))] = (stat.S_IFMT(status.st_mode), *what)
    return found


def _command(arguments: list[str], place: Workspace) -> None:
    """Run `ddpmkit ARGUMENTS` and write its output to a file. To be called in a separate process."""
    with place.output.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ["DDPMKIT_CACHE"] = str(place.cache)
    obey_permissions()
    if arguments:
        from ddpmkit.cli import main

        plugin = [] if arguments[0] in ("compare", "checkpoint") else ["--plugin", str(PLUGIN)]
        main([*arguments, *plugin])
    else:
        _report(place.run)


def _report(run: Path) -> None:
    from ddpmkit.errors import DdpmkitError
    from ddpmkit.report import write_report

    try:
        write_report(run)
    except (DdpmkitError, OSError) as error:
        sys.exit(f"error: {error}")


def main() -> int:
    """Return the exit code: 0 if there was no problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", choices=COMMANDS, help="only this command; may be repeated")
    parser.add_argument("--every", type=int, default=1, help="try one of N cases, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        place = finished_run(folder)
        every = cases(place, options.command or tuple(COMMANDS))
        chosen = random.Random(options.seed).sample(every, -(-len(every) // options.every))
        outcome = damage_everything(place, chosen, functools.partial(print, flush=True))
        with contextlib.suppress(OSError):
            _make_removable(place.watched)
    summary = f"{outcome.commands} commands, {outcome.refused} refused, {len(outcome.problems)} problems"
    print(summary)  # noqa: T201 -- the output of the script
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
