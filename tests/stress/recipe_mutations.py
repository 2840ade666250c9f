"""Mutations of recipes, as people, editors and attackers make them, and a folder of files that they refer to."""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["CANARY", "RECIPES", "furnish", "mutated", "overrides"]

RECIPES = Path(__file__).parent.parent.parent / "recipes"
CANARY = "canary_in_the_recipe"
"""A module that creates a file `imported` next to itself when it is imported."""

Lines = list[bytes]

_NUMBERS = """
0 -1 1 3 1.0 1e400 -1e400 1e300 0.1e-320 nan -nan inf -inf 0x10 0b1 1_000 1__0 007 9223372036854775807
9223372036854775808 -9223372036854775809 18446744073709551616
""".split()  # noqa: SIM905 -- easier to read as words
_NUMBERS += ["9" * 400, "-" + "9" * 5_000, "0x" + "f" * 5_000, "0." + "3" * 5_000]
_DATES = ["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.999999-23:59", "2021-02-30"]
_TEXTS = [
    *('""', "''", '"é猫"', '"\\u0000"', '"\\u001b[31m\\u009b2J"', '"\\u202e"', '"\\ud800"', '"\\q"'),
    *('"""\n"""', "'\x1b'", '"a\\nb"', "'''\\'''", '"true"', '"12"', '"../.."', "'C:\\data'"),
    *('"' + "x" * 10_000 + '"', '"' + "猫" * 300 + '"'),
]
_COLLECTIONS = [
    *("[]", "[[]]", "[{}]", "[1, 'a']", "[nan, 1979-05-27]", "{}"),
    *("{a = {b = {c = 1}}}", "{a.b = 1, a.c = 2}", "{a = 1,}", "{a = 1, a = 2}"),
    *("[" * depth + "]" * depth for depth in (40, 60, 300, 5_000)),
    *("{a = " * depth + "1" + "}" * depth for depth in (40, 60, 300)),
    *("[" + entry * times + "]" for entry, times in (("1,", 60_000), ("'a',", 3_000), ("{},", 2_000), ("1,", 70_000))),
    "[" + ", ".join(f"'{number}'" for number in range(10_000)) + "]",
]
_COMPONENTS = [
    f'"{name}"'
    for name in f"""
cosine ddpmkit/cosine DDPMKIT/cosine ddpmkit/ / // cosin local/nowhere acme/zigzag
os:system os.system builtins:eval __import__ this:s wandb:init torch:load ddpmkit_plugins.l1.loss:L1Loss
{CANARY} {CANARY}:Boom {CANARY}/boom local/{CANARY} ./{CANARY}.py ddpmkit/{CANARY}:Boom
{{0.__class__}} %s%n $(id) `id` ';import
""".split()
]
_BASES = [
    f'"{name}"'
    for name in f"""
base/ddpm.toml ./base/../base/ddpm.toml quickstart.toml no.toml no/no.toml . / ~ ~/x base {CANARY}.py
loop.toml loop-a.toml chain-0.toml link.toml pipe.toml latin.toml long.toml http://localhost/x.toml
/dev/zero /dev/full /proc/self/environ /proc/self/mem /etc/passwd *.toml $HOME/x - a\\u0000b \\u001b[31m.toml
""".split()
]
_BASES += ['""', '"' + "x" * 300 + '"', '"' + "x/" * 3_000 + '"', "3", "['base/ddpm.toml']", "{}"]
_VALUES = (_NUMBERS, _DATES, _TEXTS, _COLLECTIONS, _COMPONENTS, ["true", "false", "True", "None", "cosine", "1 2", ""])
_LINES = [
    *("[data]", "[[data]]", "[data.data]", "[metric]", "[[metric]]", "[[metric.metric]]", "[tracker]", "[[train]]"),
    *("[lock]", "[[lock]]", "lock = 1", "[ ]", "[train", "]]", "[é]", "[猫.犬]", "['']", "[a.b.c.d.e]", "[1.2]"),
    *("=", "a", "a =", "= 1", "'' = 1", "é = 1", '"\\u0001" = 1', '"\\u001b[2J" = 1', '"a\\nb" = 1'),
    *("x.y.z = 1", "data.use.deeper = 1", "train.steps.steps = 1", "train.steps = 1", "metric.0.every = 1"),
    *("1979-05-27 = 1", "inf = 1", "true = false", "3.14 = 'pi'", "-1 = 1", "__class__ = 1"),
    *("use = 'cosine'", "name = ''", "name = '../x'", "use.use = 1"),
    *("a" + ".a" * depth + " = 1" for depth in (30, 100, 1_000, 20_000)),
    *("k" * 50_000 + " = 1", "\n".join(f"k{number} = 1" for number in range(9_000)), "[[metric]]\n" * 2_000),
    *("\t", "\x00", "\x0b", "\x1b[31m", "\x7f", "\r", "\ufeff", "\u2028", "\u0085", "# \x1b]0;title\x07", "# \u202e"),
]
_KEYS = [
    *("train.steps", "schedule.use", "data.classes", "metric.0.every", "metric.9.every", "name", "extends", "a.b.c"),
    *("", "=", "'", "a b", "é", "lock.x", "train", "\x1b", "\udcff", "'\udcff'", "a\nb"),
    *(f"metric.{'9' * 5_000}.every", "a" + ".a" * 100, "a" + ".a" * 5_000),
]


def furnish(folder: Path) -> Sequence[bytes]:
    """Fill `folder` with the shipped recipes and other files that a recipe may refer to. Return the recipes."""
    shutil.copytree(RECIPES, folder, dirs_exist_ok=True)
    (folder / f"{CANARY}.py").write_text("from pathlib import Path\nPath(__file__).with_name('imported').touch()\n")
    for name, extends in {"loop": "loop", "loop-a": "loop-b", "loop-b": "loop-a"}.items():
        (folder / f"{name}.toml").write_text(f'extends = "{extends}.toml"\n')
    for number in range(200):
        (folder / f"chain-{number}.toml").write_text(f'extends = "chain-{number + 1}.toml"\n')
    (folder / "link.toml").symlink_to("link.toml")
    os.mkfifo(folder / "pipe.toml")
    (folder / "latin.toml").write_bytes("name = 'é'\n".encode("latin-1"))
    (folder / "long.toml").write_bytes(b"#" * 10_000_000)
    return [path.read_bytes() for path in sorted(RECIPES.rglob("*.toml"))]


def mutated(rng: random.Random, recipes: Sequence[bytes]) -> bytes:
    """Return one of the recipes with one to four mutations."""
    lines = rng.choice(recipes).split(b"\n")
    for _ in range(rng.randint(1, 4)):
        lines = rng.choice(_MUTATIONS)(rng, lines)
    return b"\n".join(lines)


def overrides(rng: random.Random) -> list[str]:
    """Return one or two values for `--set`."""
    return [f"{rng.choice(_KEYS)}={rng.choice(rng.choice(_VALUES))}" for _ in range(rng.randint(1, 2))]


def _keyed(rng: random.Random, lines: Lines, key: bytes = b"") -> int | None:
    """Return the index of a random line that sets `key`; an empty key is any key."""
    found = [
        number for number, line in enumerate(lines) if line.split(b"=")[0].strip().endswith(key) and b" = " in line
    ]
    return rng.choice(found) if found else None


def _put(lines: Lines, number: int | None, value: str) -> Lines:
    if number is None:
        return lines
    key = lines[number].partition(b"=")[0]
    return [*lines[:number], key + b"= " + value.encode(), *lines[number + 1 :]]


def _other_value(rng: random.Random, lines: Lines) -> Lines:
    return _put(lines, _keyed(rng, lines), rng.choice(rng.choice(_VALUES)))


def _other_component(rng: random.Random, lines: Lines) -> Lines:
    return _put(lines, _keyed(rng, lines, b"use"), rng.choice(_COMPONENTS))


def _other_base(rng: random.Random, lines: Lines) -> Lines:
    return [f"extends = {rng.choice(_BASES)}".encode(), *(line for line in lines if not line.startswith(b"extends"))]


def _swapped_values(rng: random.Random, lines: Lines) -> Lines:
    """Give one key the value of another: valid TOML in the wrong place."""
    one, other = _keyed(rng, lines), _keyed(rng, lines)
    return _put(lines, one, lines[other].partition(b"=")[2].decode(errors="replace")) if other is not None else lines


def _insert(rng: random.Random, lines: Lines) -> Lines:
    number = rng.randint(0, len(lines))
    return [*lines[:number], rng.choice(_LINES).encode(), *lines[number:]]


def _delete(rng: random.Random, lines: Lines) -> Lines:
    number = rng.randrange(len(lines))
    return [*lines[:number], *lines[number + 1 :]] or [b""]


def _repeat(rng: random.Random, lines: Lines) -> Lines:
    number = rng.randrange(len(lines))
    return lines[: number + 1] + lines[number:]


def _swap(rng: random.Random, lines: Lines) -> Lines:
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    swapped = list(lines)
    swapped[one], swapped[other] = lines[other], lines[one]
    return swapped


def _shuffle(rng: random.Random, lines: Lines) -> Lines:
    return rng.sample(lines, len(lines))


def _misspell(rng: random.Random, lines: Lines) -> Lines:
    number = rng.randrange(len(lines))
    letters = list(lines[number].decode(errors="replace"))
    if len(letters) > 1:
        place = rng.randrange(len(letters) - 1)
        letters[place : place + 2] = reversed(letters[place : place + 2])
    return [*lines[:number], "".join(letters).encode(), *lines[number + 1 :]]


def _flip_bytes(rng: random.Random, lines: Lines) -> Lines:
    content = bytearray(b"\n".join(lines))
    for _ in range(rng.randint(1, 8) if content else 0):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content).split(b"\n")


def _cut_off(rng: random.Random, lines: Lines) -> Lines:
    content = b"\n".join(lines)
    return content[: rng.randint(0, len(content))].split(b"\n")


def _line_ends(rng: random.Random, lines: Lines) -> Lines:
    return rng.choice([b"\r\n", b"\r", b"\n\n", b"\xe2\x80\xa8"]).join(lines).split(b"\n")


def _encoding(rng: random.Random, lines: Lines) -> Lines:
    text = b"\n".join(lines).decode(errors="replace")
    encoding = rng.choice(["utf-8-sig", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "utf-7"])
    return text.encode(encoding, errors="replace").split(b"\n")


def _another_language(rng: random.Random, lines: Lines) -> Lines:
    """Write it as in YAML, JSON or INI."""
    old, new = rng.choice([(b" = ", b": "), (b" = ", b" "), (b"#", b";"), (b'"', b"'"), (b'"', b""), (b"[", b"{")])
    return [line.replace(old, new) for line in lines]


_MUTATIONS: Sequence[Callable[[random.Random, Lines], Lines]] = (
    *([_other_value] * 6 + [_insert] * 4 + [_other_component] * 3 + [_misspell] * 3 + [_flip_bytes] * 2),
    *(_other_base, _swapped_values, _delete, _repeat, _swap, _shuffle),
    *(_cut_off, _line_ends, _encoding, _another_language),
)
