"""Kill `ddpmkit` before every change that it makes to its files, give the same command again, and compare.

    python tests/stress/every_operation.py                        # every change of every scenario
    python tests/stress/every_operation.py --scenario fresh --every 5

A scenario is a command and the state of the disk before it. Its changes are counted in an undisturbed process; then,
for each of them, a process dies just before it and another one runs the same command to its end. That must leave the
names that the undisturbed process left, in the run folder and in the cache, and nothing else; tensors equal in every
bit, and the same log, scores, tables and images.
"""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from operations import counted, operations
from PIL import Image
from processes import call
from runs import unlike_tensors

from ddpmkit.checkpoint import open_checkpoint

__all__ = ["SCENARIOS", "Outcome", "Place", "kill_everywhere"]

_PARTS = Path(__file__).with_name("stress_parts.py")
_RECIPE = """
name = "stressed"
metric = [{metric}]
[data]
use = "image-folder"
root = "{data}"
image_size = 8
[diffusion]
timesteps = 4
[backbone]
use = "attention-unet"
dim = 8
multipliers = [1]
linear_attention_levels = []
heads = 1
head_dim = 8
[loss]
use = "local/unlucky"
[sampler]
count = 2
[train]
steps = 6
batch_size = 2
log_every = 1
validate_every = 3
sample_every = 3
checkpoint_every = 2
keep_last = 1
keep_best = "brightness"
ema_sigma_rels = [0.1]
ema_snapshot_every = 3
on_nonfinite = "rollback"
device = "cpu"
[[tracker]]
use = "csv"
"""
_METRIC = '{use = "local/brightness", every = 2, num_samples = 4}'
_OTHER_METRIC = '{use = "nearest-neighbours", num_samples = 4}'
_UNLUCKY_ABOVE = 1.5


class Place:
    """Folders of the runs: what the processes may change is `watched`, and always at one path."""

    def __init__(self, folder: Path) -> None:
        """`folder` is empty."""
        self.folder = folder.resolve()
        self.watched = self.folder / "watched"
        self.run, self.cache = self.watched / "run", self.watched / "cache"
        self.record, self.output = self.folder / "operations.txt", self.folder / "output.log"
        self.recipe = self.folder / "stressed.toml"
        self.archive = self.folder / "afhq.zip"
        data = self.folder / "data"
        for split, count in (("train", 6), ("val", 2)):
            for number in range(count):
                file = data / split / "cat" / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([number, count]).integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file)
        with zipfile.ZipFile(self.archive, "w") as archive:
            for file in sorted(data.rglob("*.png")):
                archive.write(file, file.relative_to(data))
        self.recipe.write_text(_RECIPE.format(data=data, metric=_METRIC), encoding="utf-8")

    def command(self, arguments: Sequence[str], fatal: int | None = None) -> int:
        """The exit code of a process."""
        os.environ["DDPMKIT_CACHE"] = str(self.cache)
        plugin = [] if arguments[0] == "data" else ["--plugin", str(_PARTS)]
        return call(_counted, [*arguments, *plugin], self.watched, self.record, self.output, str(self.cache), fatal)

    def finish(self, arguments: Sequence[str]) -> None:
        """The same, which must succeed."""
        if (exit_code := self.command(arguments)) != 0:
            raise RuntimeError(f"exit code {exit_code} of {' '.join(arguments)}: see {self.output}")

    def reset(self, template: Path | None = None) -> None:
        """Put the watched folder back to a copy; None: empty it."""
        shutil.rmtree(self.watched, ignore_errors=True)
        if template is None:
            self.run.mkdir(parents=True)
            self.cache.mkdir()
        else:
            shutil.copytree(template, self.watched)

    def keep(self, name: str) -> Path:
        """A copy of the watched folder."""
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.watched, copy)
        return copy


@dataclass(frozen=True)
class Scenario:
    """A command, and what makes the disk ready for it."""

    arguments: Callable[[Place], list[str]]
    prepare: Callable[[Place], None] = lambda place: None


def _run(place: Place, *settings: str) -> list[str]:
    return ["run", str(place.recipe), "--out", str(place.run), *(part for key in settings for part in ("--set", key))]


def _interrupted(place: Place) -> None:
    """A process died after the first checkpoint, in the middle of the next one."""
    place.finish(_run(place))
    saved = "os.rename checkpoints/.step-00000004.partial checkpoints/step-00000004"
    fatal = operations(place.record).index(saved.replace("checkpoints", "run/checkpoints"))
    place.reset()
    if place.command(_run(place), fatal) != -signal.SIGKILL:
        raise RuntimeError("the process was to die in its second checkpoint")


def _finished(place: Place) -> None:
    place.finish(_run(place))


def _finished_without_cache(place: Place) -> None:
    place.finish(_run(place))
    shutil.rmtree(place.cache)
    place.cache.mkdir()


SCENARIOS: dict[str, Scenario] = {
    "fresh": Scenario(_run),
    "resume": Scenario(_run, _interrupted),
    "rollback": Scenario(lambda place: _run(place, f"loss.above={_UNLUCKY_ABOVE}", "train.seed=3")),
    "evaluate": Scenario(lambda place: ["evaluate", str(place.run), "--num-samples", "6"], _finished_without_cache),
    "longer": Scenario(lambda place: _run(place, "train.steps=8"), _finished),
    "another metric": Scenario(lambda place: _run(place, f"metric=[{_METRIC}, {_OTHER_METRIC}]"), _finished),
    "sweep": Scenario(
        lambda place: [
            *("sweep", str(place.recipe), "--out", str(place.run), "--set", "train.steps=2"),
            *("--set", "sweep.over.train.learning_rate=[0.001, 0.002]"),
        ]
    ),
    "fetch": Scenario(
        lambda place: ["data", "fetch", "afhq", "--out", str(place.run / "afhq"), "--url", place.archive.as_uri()]
    ),
}


@dataclass
class Outcome:
    """What came of one scenario."""

    changes: int = 0
    """Of the undisturbed process."""
    kills: int = 0
    exact: int = 0
    """Commands given again that left what the undisturbed one left."""
    left: Counter[str] = field(default_factory=Counter)
    """Names that only the killed ones left for good."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        left = ", ".join(f"{name} ({times})" for name, times in self.left.most_common(20)) or "nothing"
        summary = f"{self.changes} changes, {self.kills} kills, {self.exact} exact; left behind: {left}"
        return "\n".join([summary, *(f"  - {problem}" for problem in self.problems)])


def kill_everywhere(scenario: Scenario, place: Place, fatal: Callable[[list[str]], Iterable[int]]) -> Outcome:
    """Kill the scenario's command before each change that `fatal` chooses of a list of them."""
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
            # Threads race: now and then a process has a change less.
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
        problems += _unlike(place.watched, expected, names & wanted)
        outcome.exact += not problems
        outcome.problems += [f"{where}: {problem}" for problem in problems]
    return outcome


def _counted(arguments: list[str], watched: Path, record: Path, output: Path, cache: str, fatal: int | None) -> None:
    os.environ["DDPMKIT_CACHE"] = cache  # the server of the processes has the environment that it began with
    counted(arguments, watched, record, output, fatal)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _pattern(name: str) -> str:
    """A name without what is random in it."""
    path = Path(name)
    return str(path.with_name(f"tmp*{path.suffix}")) if path.name.startswith("tmp") else name


def _unlike(folder: Path, expected: Path, names: set[str]) -> Iterator[str]:
    """What of the files under both is not the same."""
    for name in sorted(names):
        ours, theirs = folder / name, expected / name
        if ours.is_dir():
            if (theirs / "manifest.json").exists():
                yield from _unlike_checkpoints(ours, theirs)
        elif _comparable(ours) != _comparable(theirs):
            yield f"{name} differs"


def _unlike_checkpoints(ours: Path, theirs: Path) -> Iterator[str]:
    unlike = unlike_tensors(open_checkpoint(ours), open_checkpoint(theirs))
    # A snapshot has averages alone.
    yield from (f"{ours.name}: {name} differs" for name in unlike if "no tensor to compare with" not in name)


def _comparable(file: Path) -> object:
    """What must be the same in a file: all but times and rates, and how often an incident happened."""
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
    """The exit code: 0 if every command given again was exact."""
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
                SCENARIOS[name], Place(folder / name), lambda changes: range(0, len(changes), options.every)
            )
            print(f"{name}: {outcome}", flush=True)  # noqa: T201 -- what the script is for
            problems += len(outcome.problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
