"""Kill `ddpmkit` before every change that it makes to its files, run the same command again, and compare.

    python tests/stress/every_operation.py                        # every change of every scenario
    python tests/stress/every_operation.py --scenario fresh --every 5

A scenario is a command and the state of the disk before it. An uninterrupted process records the changes that it makes
to files. Then, for each change, one process is killed just before it, and another runs the same command to its end. The
run folder and the cache must then contain the same file names as after the uninterrupted process, equal tensors bit for
bit, and the same log, scores, tables and images.
"""

import argparse
import csv
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from operations import operations
from runs import differing_tensors
from scenarios import SCENARIOS, Scenario, Workspace

from ddpmkit.checkpoint import open_checkpoint

__all__ = ["Outcome", "kill_everywhere"]


@dataclass
class Outcome:
    """The result of one scenario."""

    changes: int = 0
    """Changes of the uninterrupted process."""
    kills: int = 0
    exact: int = 0
    """Repeated commands that left what the uninterrupted one left."""
    left: Counter[str] = field(default_factory=Counter)
    """File names that only exist after a kill."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        left = ", ".join(f"{name} ({times})" for name, times in self.left.most_common(20)) or "nothing"
        summary = f"{self.changes} changes, {self.kills} kills, {self.exact} exact; left behind: {left}"
        return "\n".join([summary, *(f"  - {problem}" for problem in self.problems)])


def kill_everywhere(scenario: Scenario, place: Workspace, fatal: Callable[[list[str]], Iterable[int]]) -> Outcome:
    """Kill the scenario's command before each change whose index `fatal` selects from the list of changes."""
    arguments, outcome = scenario.arguments(place), Outcome()
    place.reset()
    scenario.prepare(place)
    before = place.keep("before")
    place.finish(arguments)
    changes = operations(place.record)
    outcome.changes = len(changes)
    expected = place.keep("expected")
    for number in fatal(changes):
        place.reset(before)
        exit_code = place.command(arguments, number)
        where = f"before change {number}, {''.join(operations(place.record)[-1:])}"
        if exit_code != -signal.SIGKILL:
            # Threads race, so a process sometimes makes one change less.
            outcome.problems += [f"{where}: exit code {exit_code}"] if exit_code else []
            continue
        outcome.kills += 1
        if (exit_code := place.command(arguments)) != 0:
            outcome.problems.append(f"{where}: the same command again ends with {exit_code}")
            continue
        names, wanted = _names(place.watched), _names(expected)
        outcome.left.update(_pattern(name) for name in names - wanted)
        problems = [f"{name} is left behind" for name in sorted(names - wanted)]
        problems += [f"{name} is missing" for name in sorted(wanted - names)]
        problems += _different_files(place.watched, expected, names & wanted)
        outcome.exact += not problems
        outcome.problems += [f"{where}: {problem}" for problem in problems]
    return outcome


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _pattern(name: str) -> str:
    """Return a name without its random part."""
    path = Path(name)
    return str(path.with_name(f"tmp*{path.suffix}")) if path.name.startswith("tmp") else name


def _different_files(folder: Path, expected: Path, names: set[str]) -> Iterator[str]:
    """Yield a line for each of `names` that differs between both folders."""
    for name in sorted(names):
        ours, theirs = folder / name, expected / name
        if ours.is_dir():
            if (theirs / "manifest.json").exists():
                yield from _different_checkpoints(ours, theirs)
        elif _comparable(ours) != _comparable(theirs):
            yield f"{name} differs"


def _different_checkpoints(ours: Path, theirs: Path) -> Iterator[str]:
    different = differing_tensors(open_checkpoint(ours), open_checkpoint(theirs))
    # A snapshot contains averages only.
    yield from (f"{ours.name}: {name} differs" for name in different if "no tensor to compare with" not in name)


def _comparable(file: Path) -> object:
    """Return the part of a file that must be equal: everything but times, rates, and how often an incident happened."""
    if file.name == "incidents.jsonl":
        return set(file.read_text(encoding="utf-8").splitlines())
    if file.name == "metrics.jsonl":
        records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [{**record, "images_per_second": None} for record in records]
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as rows:
            return [{**row, "images_per_second": None} for row in csv.DictReader(rows)]
    if file.suffix == ".html":
        page = file.read_text(encoding="utf-8")
        return re.sub(r"<figcaption>Speed<.*?</figure>|about \d+ (s|min)\b", "", page, flags=re.DOTALL)
    if file.parent.name.startswith("step-"):
        return None  # compared by its tensors
    return file.read_bytes()


def main() -> int:
    """Return the exit code: 0 if every repeated command was exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append", help="[default: all]")
    parser.add_argument("--every", type=int, default=1, help="kill before each n-th change only")
    parser.add_argument("--workdir", type=Path, help="an empty folder for the runs  [default: a temporary one]")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    problems = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.workdir or Path(temporary)
        for name in options.scenario or SCENARIOS:
            (folder / name).mkdir(parents=True)
            outcome = kill_everywhere(
                SCENARIOS[name], Workspace(folder / name), lambda changes: range(0, len(changes), options.every)
            )
            print(f"{name}: {outcome}", flush=True)  # noqa: T201 -- the output of the script
            problems += len(outcome.problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
