"""Put mutated recipes through `ddpmkit recipe check`: exit code 0 or 2, an answer with a place, never a traceback.

    python tests/stress/mutated_recipes.py --count 5000 --seed 0

The shipped recipes are damaged as people, editors and enemies do it. Most go through the command in this process; every
two hundred and fiftieth through a process of its own. A recipe that breaks the reader is kept, and the exit code is 1.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

from ddpmkit.cli import main as ddpmkit

__all__ = ["MUTATIONS", "Answers", "check", "mutated"]

RECIPES = Path(__file__).parent.parent.parent / "recipes"
SECONDS = 5.0
"""The longest that a check may take on a slow machine."""
PLACE = re.compile(r"error: \S+\.toml|error: \S+:\d+:\d+: ")
"""An answer begins with the file, or, where a recipe extends what is none, with a place in that."""
VALUES = [
    *("0", "-1", "1e400", "nan", "-inf", "9" * 400, "0x10", "1_000", "true", '""', "''", '"' + "x" * 10_000 + '"'),
    *("[]", "[[]]", "[1, 'a']", "{}", "{a = {b = {c = 1}}}", "1979-05-27T07:32:00Z", "07:32:00", '"\\u0000"', '"é猫"'),
    *('"""\n"""', "[" * 200 + "]" * 200, "[" + "1," * 5_000 + "]", '"os:system"', '"../../etc/passwd"', '"/dev/zero"'),
    *('"ddpmkit_plugins.l1.loss:L1Loss"', '"local/nowhere"', '"acme/zigzag"', "18446744073709551616", "0.1e-320"),
]
LINES = [
    *(
        "[data]",
        "[[data]]",
        "[data.data]",
        "[metric]",
        "[[metric]]",
        "[tracker]",
        "[ ]",
        "[train",
        "]]",
        "=",
        "a",
        "a =",
        "= 1",
    ),
    *(
        "extends = 'base/ddpm.toml'",
        "extends = 'nowhere.toml'",
        "extends = 3",
        "extends = '/'",
        "extends = '.'",
        "x.y.z = 1",
    ),
    *(
        "'' = 1",
        '"\\u0001" = 1',
        "data.use.deeper = 1",
        "train.steps.steps = 1",
        "name = ''",
        "name = '../../x'",
        "lock = 1",
    ),
    *(
        "[lock]",
        "__class__ = 1",
        "use = 'cosine'",
        "\t",
        "\x00",
        "\ufeff",
        "\x1b[31m",
        "# comment",
        "é = 1",
        "[é]",
        "\u2028",
    ),
]
Lines = list[bytes]


def _any_line(chance: random.Random, lines: Lines) -> int:
    return chance.randrange(len(lines)) if lines else 0


def _set_value(chance: random.Random, lines: Lines) -> Lines:
    keyed = [number for number, line in enumerate(lines) if b"=" in line and not line.lstrip().startswith(b"#")]
    if not keyed:
        return lines
    number = chance.choice(keyed)
    key, _, _ = lines[number].partition(b"=")
    return [*lines[:number], key + b"= " + chance.choice(VALUES).encode(), *lines[number + 1 :]]


def _insert(chance: random.Random, lines: Lines) -> Lines:
    number = chance.randint(0, len(lines))
    return [*lines[:number], chance.choice(LINES).encode(), *lines[number:]]


def _delete(chance: random.Random, lines: Lines) -> Lines:
    number = _any_line(chance, lines)
    return lines[:number] + lines[number + 1 :]


def _repeat(chance: random.Random, lines: Lines) -> Lines:
    number = _any_line(chance, lines)
    return lines[: number + 1] + lines[number:]


def _swap(chance: random.Random, lines: Lines) -> Lines:
    chance.shuffle(lines)
    return lines


def _misspell(chance: random.Random, lines: Lines) -> Lines:
    number = _any_line(chance, lines)
    letters = list(lines[number].decode(errors="replace")) if lines else []
    if len(letters) > 1:
        place = chance.randrange(len(letters) - 1)
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return [*lines[:number], "".join(letters).encode(), *lines[number + 1 :]]


def _flip_bytes(chance: random.Random, lines: Lines) -> Lines:
    content = bytearray(b"\n".join(lines))
    for _ in range(chance.randint(1, 8)):
        if content:
            content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content).split(b"\n")


def _cut_off(chance: random.Random, lines: Lines) -> Lines:
    content = b"\n".join(lines)
    return content[: chance.randint(0, len(content))].split(b"\n")


def _windows(_chance: random.Random, lines: Lines) -> Lines:
    return [b"\xef\xbb\xbf" + lines[0] if lines else b"", *(line + b"\r" for line in lines[1:])]


def _utf16(_chance: random.Random, lines: Lines) -> Lines:
    return [b"\n".join(lines).decode(errors="replace").encode("utf-16")]


def _another_dialect(_chance: random.Random, lines: Lines) -> Lines:
    return [line.replace(b" = ", b": ") for line in lines]


MUTATIONS: Sequence[Callable[[random.Random, Lines], Lines]] = (
    *([_set_value] * 6 + [_insert] * 4 + [_misspell] * 3 + [_flip_bytes] * 2),
    *(_delete, _repeat, _swap, _cut_off, _windows, _utf16, _another_dialect),
)


def mutated(chance: random.Random, recipes: Sequence[bytes]) -> bytes:
    """One of the recipes with one to four things done to it."""
    lines = chance.choice(recipes).split(b"\n")
    for _ in range(chance.randint(1, 4)):
        lines = chance.choice(MUTATIONS)(chance, lines)
    return b"\n".join(lines)


@dataclass
class Answers:
    """What came of the recipes."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def check(recipe: Path, answers: Answers, *, alone: bool = False) -> None:
    """Put one recipe through the command; `alone`: in a process of its own."""
    arguments = ["recipe", "check", str(recipe), "--no-plugins"]
    before, began = set(sys.modules), time.perf_counter()
    if alone:
        done = subprocess.run(
            [sys.executable, "-m", "ddpmkit", *arguments], capture_output=True, text=True, check=False
        )
        code, told = done.returncode, done.stderr
    else:
        result = CliRunner().invoke(ddpmkit, arguments)
        code, told = result.exit_code, result.stderr
        # The readers of our own that are imported when first needed.
        strangers = {name for name in set(sys.modules) - before if not name.startswith(("ddpmkit", "encodings"))}
        if any(name in strangers for name in ("os.system", "torch", "wandb")):
            answers.faults.append(f"{recipe}: imported {sorted(strangers)}")
    seconds = time.perf_counter() - began
    answers.codes[code] += 1
    answers.slowest = max(answers.slowest, seconds)
    fault = None
    if code not in (0, 2):
        fault = f"exit code {code}"
    elif "Traceback" in told or "bug in ddpmkit" in told:
        fault = "a traceback"
    elif code == 2 and not PLACE.match(told):
        fault = "an answer that does not say where"
    elif seconds > SECONDS:
        fault = f"{seconds:.1f} s"
    if fault is not None:
        answers.faults.append(f"{recipe}: {fault}\n{told[-2000:]}")


def main() -> int:
    """Make the recipes, check them, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, answers = random.Random(options.seed), Answers()
    recipes = [path.read_bytes() for path in sorted(RECIPES.rglob("*.toml"))]
    folder = Path(tempfile.mkdtemp(prefix="mutated-recipes-"))
    (folder / "base").mkdir()
    for path in (RECIPES / "base").iterdir():
        (folder / "base" / path.name).write_bytes(path.read_bytes())
    for shipped in RECIPES.glob("*.toml"):
        (folder / shipped.name).write_bytes(shipped.read_bytes())
    began = time.perf_counter()
    for number in range(options.count):
        path = folder / f"mutated{number}.toml"
        path.write_bytes(mutated(chance, recipes))
        faults = len(answers.faults)
        check(path, answers, alone=number % 250 == 249)
        if len(answers.faults) == faults:
            path.unlink()
    seconds = time.perf_counter() - began
    print(  # noqa: T201 -- what the script is for
        f"{options.count} mutated recipes in {seconds:.0f} s, the slowest {answers.slowest:.2f} s: "
        f"{answers.codes[0]} accepted, {answers.codes[2]} refused, {len(answers.faults)} broke the reader",
        *answers.faults[:10],
        sep="\n",
    )
    return 1 if answers.faults else 0


if __name__ == "__main__":
    sys.exit(main())
