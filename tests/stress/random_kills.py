"""Kill a real `ddpmkit run` at random times, run the same command again, and compare the results.

    python tests/stress/random_kills.py --kills 100 --seed 0

Each start of the run is a separate process, and each kill is a SIGKILL. To make starts cheap, the processes are forks
of a server that has imported torch, and call the `main` of the command line (`--spawn`: fresh interpreters instead).
After every kill, the folder must contain intact checkpoints and a readable log. Every run that finishes must equal
the uninterrupted one: tensors bit for bit, records except throughput, images byte for byte.
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
from runs import CHECKPOINT_EVERY, SAMPLE_EVERY, differences, problems_of, step_records, write_recipe

from ddpmkit.checkpoint import checkpoint_folders

__all__ = ["PLACES", "Outcome", "kill_at_random"]

PLACES = ("start-up", "training", "save", "sampling", "images and report")
"""The phases of a run in which a kill can happen."""


@dataclass
class Outcome:
    """The results of all kills."""

    kills_by_place: Counter[str] = field(default_factory=Counter)
    """Number of kills in each phase."""
    finished: int = 0
    """Number of finished runs, all compared with the uninterrupted one."""
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Number of kills."""
        return self.kills_by_place.total()

    def __str__(self) -> str:
        places = ", ".join(f"{place} {self.kills_by_place[place]}" for place in PLACES)
        summary = (
            f"{self.kills} kills ({places}); {self.finished} finished runs compared; {len(self.problems)} problems"
        )
        return "\n".join([summary, *(f"  - {problem}" for problem in self.problems)])


def kill_at_random(kills: int, seed: int, folder: Path, *, steps: int = 60, fresh_interpreter: bool = False) -> Outcome:
    """Kill `kills` times, in as many runs of `steps` steps as necessary, and finish the last run."""
    recipe, outcome, rng = write_recipe(folder), Outcome(), random.Random(seed)
    log, uninterrupted = folder / "output.log", folder / "uninterrupted"

    def start(run: Path, kill_after: float | None = None) -> int:
        arguments = ["run", str(recipe), "--out", str(run), "--set", f"train.steps={steps}"]
        return command(arguments, log, kill_after, fresh_interpreter=fresh_interpreter)

    def seconds(run: Path) -> float:
        began = time.monotonic()
        if start(run) != 0:
            raise RuntimeError(f"the run fails without a kill: see {log}")
        return time.monotonic() - began

    seconds(folder / "first")  # warms up the server and the cache
    complete = seconds(uninterrupted)
    outcome.problems += differences(folder / "first", uninterrupted)
    start_up = seconds(uninterrupted)  # a finished run, given again, only starts
    # At most a third of a run, so that resumed runs reach the later phases too.
    longest = start_up + (complete - start_up) / 3

    while outcome.kills < kills:
        run = folder / f"run-{outcome.finished:03d}"
        while (before := _Traces.of(run)) and (
            exit_code := start(run, rng.uniform(0, longest) if outcome.kills < kills else None)
        ):
            if exit_code != -9:
                outcome.problems.append(f"{run}: exit code {exit_code}, see {log}")
                return outcome
            outcome.kills_by_place[_place(run, before, steps)] += 1
            outcome.problems += [f"kill {outcome.kills}: {problem}" for problem in problems_of(run, uninterrupted)]
        outcome.finished += 1
        outcome.problems += differences(run, uninterrupted)
    return outcome


@dataclass(frozen=True)
class _Traces:
    """The traces in a run folder that show how far its last process came."""

    log: int | None
    """Inode of the log: a resumed run writes another file."""
    partial: frozenset[int]
    """Inodes of unfinished checkpoint folders."""
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
    """Return the phase in which the process was killed."""
    after = _Traces.of(run)
    step = max((record["step"] for record in step_records(run)), default=0)
    if (after.log == before.log and after.log is not None) or step <= before.saved < steps:
        return "start-up"
    if after.partial - before.partial or (step % CHECKPOINT_EVERY == 0 and after.saved < step):
        return "save"
    if step % SAMPLE_EVERY == 0 and not (run / "samples" / f"step-{step:08d}.png").exists():
        return "sampling"
    return "images and report" if step == steps else "training"


def main() -> int:
    """Return the exit code: 0 if there was no problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the times between start and kill")
    parser.add_argument("--workdir", type=Path, help="an empty folder for the runs  [default: a temporary one]")
    parser.add_argument("--spawn", action="store_true", help="fresh interpreters instead of forks")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.workdir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = kill_at_random(options.kills, options.seed, folder, fresh_interpreter=options.spawn)
    print(outcome)  # noqa: T201 -- the output of the script
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
