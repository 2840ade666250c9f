"""Check mutated recipes with `ddpmkit recipe check`: exit code 0 or 2, an error with a place, no traceback.

    python tests/stress/mutated_recipes.py --count 5000 --seed 0

The script damages the shipped recipes as people, editors and attackers do (`recipe_mutations`). It runs the command
in this process, and for every 250th recipe in a separate process; a fifth of the recipes come with mutated `--set`
options. `recipe show` must print an accepted recipe, and accept its own output. The script keeps each recipe that
breaks one of these rules, and then exits with 1.
"""

import argparse
import faulthandler
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner
from recipe_mutations import furnish, mutated, overrides

from ddpmkit.cli import main as ddpmkit

__all__ = ["Results", "check"]

SECONDS = 2.0
"""Time limit of a check."""
HANGS = 60.0
"""Seconds after which a check is aborted."""
LONGEST = 100_000
"""Maximum number of characters of an output."""
HEAD = re.compile(r"(?:error: )?(?:/.+?(?::\d+:\d+)?|--set .*?): \S.*|[\d,]+ problems\b.*")
"""The first line of each problem: a file or an option, and what is wrong there."""


@dataclass
class Results:
    """The results of all checks."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def check(recipe: Path, results: Results, options: Sequence[str] = (), *, alone: bool = False) -> None:
    """Check one recipe in a folder prepared by `furnish`; `alone`: in a separate process."""
    arguments = ["recipe", "check", str(recipe), "--no-plugins", *(f"--set={option}" for option in options)]
    before, began = _packages(), time.process_time()
    code, stdout, stderr = _in_its_own_process(arguments, recipe.parent) if alone else _here(arguments)
    seconds = time.process_time() - began  # processor time of this process, independent of the load of the machine
    results.codes[code] += 1
    results.slowest = max(results.slowest, seconds)
    faults = _faults(code, stdout, stderr)
    if seconds > SECONDS:
        faults.append(f"{seconds:.1f} s")
    if code == 0 and not options:
        faults += _faults_of_show(recipe)
    if (recipe.parent / "imported").exists():
        faults.append("imported what the recipe names")
    if imported := _packages() - before:
        faults.append(f"imported {', '.join(sorted(imported))}")
    results.faults += [f"{recipe}: {fault}\n{options}\n{stderr[:2000]}" for fault in faults]


def _here(arguments: Sequence[str]) -> tuple[int, str, str]:
    result = CliRunner().invoke(ddpmkit, arguments)
    return result.exit_code, result.stdout, result.stderr


def _in_its_own_process(arguments: Sequence[str], folder: Path) -> tuple[int, str, str]:
    # Operating systems accept arguments without zero bytes, up to a limited length.
    passed = (argument.replace("\0", "")[: 2**16] for argument in arguments)
    command = [sys.executable, "-m", "ddpmkit", *passed]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, check=False, timeout=HANGS, env=environment)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _packages() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def _faults(code: int, stdout: str, stderr: str) -> list[str]:
    """Return what is wrong with an output."""
    faults = []
    if code not in (0, 2):
        faults.append(f"exit code {code}")
    if any(words in stderr for words in ("Traceback", "bug in", "report it to the authors", "  - fix ")):
        faults.append("a bug")
    if len(stdout) + len(stderr) > LONGEST:
        faults.append(f"an output of {len(stderr)} characters")
    if not (stdout + stderr).replace("\n", "").isprintable():
        faults.append("an output with control characters")
    if code == 2 and not stderr.startswith("error: "):
        faults.append("no error message")
    if any(not HEAD.match(problem) for problem in stderr.strip("\n").split("\n\n") if code == 2):
        faults.append("a problem without a place")
    if code == 0 and stderr:
        faults.append("messages about an accepted recipe")
    return faults


def _faults_of_show(recipe: Path) -> list[str]:
    """Return what is wrong with the output of `recipe show`, which must be a recipe that it prints unchanged."""
    code, shown, stderr = _here(["recipe", "show", str(recipe), "--no-plugins"])
    if "this recipe is a sweep of several runs" in stderr:
        return []
    if code != 0:
        return [f"it cannot be shown\n{stderr}"]
    again = recipe.with_name("shown.toml")
    again.write_text(shown, encoding="utf-8")
    shown_again = _here(["recipe", "show", str(again), "--no-plugins"])[1]
    return [] if shown_again == shown else ["its output is shown differently"]


def main() -> int:
    """Make the recipes, check them, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, results = random.Random(options.seed), Results()
    folder = Path(tempfile.mkdtemp(prefix="mutated-recipes-")).resolve()
    recipes = furnish(folder)
    sys.path.insert(0, str(folder))
    for warm_up in ("quickstart.toml", "loop.toml"):  # imports of the reader itself
        _here(["recipe", "check", str(folder / warm_up), "--no-plugins"])
    began = time.perf_counter()
    for number in range(options.count):
        path, faults = folder / f"mutated-{number}.toml", len(results.faults)
        path.write_bytes(mutated(rng, recipes))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        check(path, results, overrides(rng) if rng.random() < 0.2 else (), alone=number % 250 == 249)
        faulthandler.cancel_dump_traceback_later()
        if len(results.faults) == faults:
            path.unlink()
    seconds = time.perf_counter() - began
    print(  # noqa: T201 -- the output of the script
        f"{options.count} mutated recipes in {seconds:.0f} s, the slowest {results.slowest:.2f} s: "
        f"{results.codes[0]} accepted, {results.codes[2]} refused, {len(results.faults)} failed",
        *results.faults[:10],
        sep="\n",
    )
    if not results.faults:
        shutil.rmtree(folder)
    return 1 if results.faults else 0


if __name__ == "__main__":
    sys.exit(main())
