"""Put mutated recipes through `ddpmkit recipe check`: exit code 0 or 2, an answer with a place, never a traceback.

    python tests/stress/mutated_recipes.py --count 5000 --seed 0

The shipped recipes are damaged as people, editors and enemies do it (`recipe_mutations`). Most go through the command
in this process; every two hundred and fiftieth through a process of its own. A fifth comes with mutated `--set`
options. What is accepted must be shown, and accepted again as it was shown. A recipe that breaks any of this is kept,
and the exit code is 1.
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

__all__ = ["Answers", "check"]

SECONDS = 2.0
"""The longest that a check may take."""
HANGS = 60.0
"""Seconds after which a check is given up."""
LONGEST = 100_000
"""Characters of an answer."""
HEAD = re.compile(r"(?:error: )?(?:/.+?(?::\d+:\d+)?|--set .*?): \S.*|[\d,]+ problems\b.*")
"""How each problem begins: with a file or an option, and what is wrong there."""


@dataclass
class Answers:
    """What came of the recipes."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def check(recipe: Path, answers: Answers, options: Sequence[str] = (), *, alone: bool = False) -> None:
    """Put one recipe, in a folder that was furnished, through the command; `alone`: in a process of its own."""
    arguments = ["recipe", "check", str(recipe), "--no-plugins", *(f"--set={option}" for option in options)]
    before, began = _packages(), time.process_time()
    code, out, told = _in_its_own_process(arguments, recipe.parent) if alone else _here(arguments)
    seconds = time.process_time() - began  # of this process alone, whatever else the machine does
    answers.codes[code] += 1
    answers.slowest = max(answers.slowest, seconds)
    faults = _faults(code, out, told)
    if seconds > SECONDS:
        faults.append(f"{seconds:.1f} s")
    if code == 0 and not options:
        faults += _faults_of_what_is_shown(recipe)
    if (recipe.parent / "imported").exists():
        faults.append("imported what the recipe names")
    if strangers := _packages() - before:
        faults.append(f"imported {', '.join(sorted(strangers))}")
    answers.faults += [f"{recipe}: {fault}\n{options}\n{told[:2000]}" for fault in faults]


def _here(arguments: Sequence[str]) -> tuple[int, str, str]:
    result = CliRunner().invoke(ddpmkit, arguments)
    return result.exit_code, result.stdout, result.stderr


def _in_its_own_process(arguments: Sequence[str], folder: Path) -> tuple[int, str, str]:
    # Systems pass on arguments of any bytes but zero, and of a limited length.
    passed = (argument.replace("\0", "")[: 2**16] for argument in arguments)
    command = [sys.executable, "-m", "ddpmkit", *passed]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, check=False, timeout=HANGS, env=environment)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _packages() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def _faults(code: int, out: str, told: str) -> list[str]:
    """What is wrong with an answer."""
    faults = []
    if code not in (0, 2):
        faults.append(f"exit code {code}")
    if any(words in told for words in ("Traceback", "bug in", "report it to the authors", "  - fix ")):
        faults.append("a bug")
    if len(out) + len(told) > LONGEST:
        faults.append(f"an answer of {len(told)} characters")
    if not (out + told).replace("\n", "").isprintable():
        faults.append("an answer that may write to the terminal as it likes")
    if code == 2 and not told.startswith("error: "):
        faults.append("no answer")
    if any(not HEAD.match(problem) for problem in told.strip("\n").split("\n\n") if code == 2):
        faults.append("a problem that does not say where")
    if code == 0 and told:
        faults.append("complaints about what was accepted")
    return faults


def _faults_of_what_is_shown(recipe: Path) -> list[str]:
    """Whether `recipe show` writes a recipe that is shown in the same words."""
    code, shown, told = _here(["recipe", "show", str(recipe), "--no-plugins"])
    if "[sweep] describes many runs" in told:
        return []
    if code != 0:
        return [f"it cannot be shown\n{told}"]
    again = recipe.with_name("shown.toml")
    again.write_text(shown, encoding="utf-8")
    return [] if _here(["recipe", "show", str(again), "--no-plugins"])[1] == shown else ["not shown as it was read"]


def main() -> int:
    """Make the recipes, check them, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, answers = random.Random(options.seed), Answers()
    folder = Path(tempfile.mkdtemp(prefix="mutated-recipes-")).resolve()
    recipes = furnish(folder)
    sys.path.insert(0, str(folder))
    for warm_up in ("quickstart.toml", "loop.toml"):  # what the reader itself imports when it is first needed
        _here(["recipe", "check", str(folder / warm_up), "--no-plugins"])
    began = time.perf_counter()
    for number in range(options.count):
        path, faults = folder / f"mutated-{number}.toml", len(answers.faults)
        path.write_bytes(mutated(chance, recipes))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        check(path, answers, overrides(chance) if chance.random() < 0.2 else (), alone=number % 250 == 249)
        faulthandler.cancel_dump_traceback_later()
        if len(answers.faults) == faults:
            path.unlink()
    seconds = time.perf_counter() - began
    print(  # noqa: T201 -- what the script is for
        f"{options.count} mutated recipes in {seconds:.0f} s, the slowest {answers.slowest:.2f} s: "
        f"{answers.codes[0]} accepted, {answers.codes[2]} refused, {len(answers.faults)} broke the reader",
        *answers.faults[:10],
        sep="\n",
    )
    if not answers.faults:
        shutil.rmtree(folder)
    return 1 if answers.faults else 0


if __name__ == "__main__":
    sys.exit(main())
