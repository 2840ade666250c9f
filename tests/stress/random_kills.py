"""Kill a real `ddpmkit run` at random times, give the same command again, and compare what comes out.

    python tests/stress/random_kills.py --kills 100 --seed 0

Each start of the run is a process of its own, and each kill a SIGKILL to it. To make a start cheap, the processes are
forks of a server that has imported torch; they then call the command line's own `main` (`--spawn`: fresh interpreters).
After every kill the folder must be sound: whole checkpoints only, a log that can be read. Every run that finishes must
equal the uninterrupted one: tensors bit for bit, records but for throughput, pictures byte for byte.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from processes import command
from runs import CHECKPOINT_EVERY, SAMPLE_EVERY, differences, step_records, unsound, write_recipe

from ddpmkit.checkpoint import checkpoint_folders

__all__ = ["PLACES", "Outcome", "kill_at_random"]

PLACES = ("start-up", "training", "save", "sampling", "pictures and report")
"""Where a kill can fall."""


@dataclass
class Outcome:
    """What came of the kills."""

    fell: Counter[str] = field(default_factory=Counter)
    """Number of kills by place."""
    finished: int = 0
    """Runs that finished and were compared with the uninterrupted one."""
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """All of them."""
        return self.fell.total()

    def __str__(self) -> str:
        places = ", ".join(f"{place} {self.fell[place]}" for place in PLACES)
        summary = (
            f"{self.kills} kills ({places}); {self.finished} finished runs compared; {len(self.problems)} problems"
        )
        return "\n".join([summary, *(f"  - {problem}" for problem in self.problems)])


def kill_at_random(kills: int, seed: int, folder: Path, *, steps: int = 60, fresh_interpreter: bool = False) -> Outcome:
    """Make so many kills, in as many runs of so many steps as that takes, and finish the last run."""
    recipe, outcome, chance = write_recipe(folder), Outcome(), random.Random(seed)
    log, uninterrupted = folder / "output.log", folder / "uninterrupted"

    def start(run: Path, kill_after: float | None = None) -> int:
        arguments = ["run", str(recipe), "--out", str(run), "--set", f"train.steps={steps}"]
        return command(arguments, log, kill_after, fresh_interpreter=fresh_interpreter)

    def seconds(run: Path) -> float:
        began = time.monotonic()
        if start(run) != 0:
            raise RuntimeError(f"the run fails even when nobody kills it: see {log}")
        return time.monotonic() - began

    seconds(folder / "first")  # warms the server and the cache up
    whole = seconds(uninterrupted)
    outcome.problems += differences(folder / "first", uninterrupted)
    start_up = seconds(uninterrupted)  # a complete run, given again, does no more than start
    # A third of a run at most, so that its later parts are reached by resumed runs too.
    longest = start_up + (whole - start_up) / 3

    while outcome.kills < kills:
        run = folder / f"run-{outcome.finished:03d}"
        while (before := _Traces.of(run)) and (
            exit_code := start(run, chance.uniform(0, longest) if outcome.kills < kills else None)
        ):
            if exit_code != -9:
                outcome.problems.append(f"{run}: exit code {exit_code}, see {log}")
                return outcome
            outcome.fell[_place(run, before, steps)] += 1
            outcome.problems += [f"kill {outcome.kills}: {problem}" for problem in unsound(run, uninterrupted)]
        outcome.finished += 1
        outcome.problems += differences(run, uninterrupted)
    return outcome


@dataclass(frozen=True)
class _Traces:
    """What a run folder shows of where its last process was."""

    log: int | None
    """The file that the log is: a run that resumes writes another."""
    partial: frozenset[int]
    """Unfinished checkpoint folders."""
    saved: int
    """Step of the newest checkpoint."""

    @classmethod
    def of(cls, run: Path) -> Self:
        log, folders = run / "metrics.jsonl", checkpoint_folders(run / "checkpoints")
        return cls(
            log=log.stat().st_ino if log.exists() else None,
            partial=frozenset(path.stat().st_ino for path in (run / "checkpoints").glob("*.partial")),
            saved=int(folders[0].name.removeprefix("step-")) if folders else 0,
        )


def _place(run: Path, before: _Traces, steps: int) -> str:
    """Where the process was when it was killed."""
    after = _Traces.of(run)
    step = max((record["step"] for record in step_records(run)), default=0)
    if (after.log == before.log and after.log is not None) or step <= before.saved < steps:
        return "start-up"
    if after.partial - before.partial or (step % CHECKPOINT_EVERY == 0 and after.saved < step):
        return "save"
    if step % SAMPLE_EVERY == 0 and not (run / "samples" / f"step-{step:08d}.png").exists():
        return "sampling"
    return "pictures and report" if step == steps else "training"


def main() -> int:
    """The exit code: 0 when every run survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the times between start and kill")
    parser.add_argument("--workdir", type=Path, help="an empty folder for the runs  [default: a temporary one]")
    parser.add_argument("--spawn", action="store_true", help="fresh interpreters instead of forks")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.workdir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = kill_at_random(options.kills, options.seed, folder, fresh_interpreter=options.spawn)
    print(outcome)  # noqa: T201 -- what the script is for
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
