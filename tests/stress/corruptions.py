"""Corrupt a checkpoint of a real run at random, and count how often that is found.

    python tests/stress/corruptions.py --count 1000 --seed 0

So many single bytes are changed, one at a time, and a fifth as many corruptions of every other kind are made: truncated
files, bytes put in and added, files deleted, and files changed for those of another checkpoint. Each is undone after
`open_checkpoint` has looked at it.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import command
from runs import write_recipe

from ddpmkit.checkpoint import checkpoint_folders, open_checkpoint
from ddpmkit.errors import InputError

__all__ = ["KINDS", "Tally", "corrupt", "corrupted"]

Change = Callable[[random.Random, bytes, bytes], bytes | None]
"""From the content of a file, and of its namesake in another checkpoint, to the corrupted content; None: no file."""


def _other_byte(chance: random.Random, content: bytes, _: bytes) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :]


def _one_bit(chance: random.Random, content: bytes, _: bytes) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def _inserted(chance: random.Random, content: bytes, _: bytes) -> bytes:
    place = chance.randrange(len(content))
    # Beside any byte, those that readers of text like to pass over.
    return content[:place] + chance.choice([chance.randbytes(1), b"\r", b"\n", b" ", b"\0"]) + content[place:]


def _line_end(chance: random.Random, content: bytes, _: bytes) -> bytes:
    """A line feed becomes a carriage return; in a file without line ends, that byte somewhere else."""
    places = [place for place, byte in enumerate(content) if byte == 0x0A]
    place = chance.choice(places) if places else chance.randrange(len(content))
    return content[:place] + (b"\r" if content[place] != 0x0D else b"\n") + content[place + 1 :]


KINDS: dict[str, Change] = {
    "a byte changed": _other_byte,
    "a bit flipped": _one_bit,
    "a line end changed": _line_end,
    "a byte inserted": _inserted,
    "truncated": lambda chance, content, _: content[: chance.randrange(len(content))],
    "bytes appended": lambda chance, content, _: content + chance.randbytes(chance.randrange(1, 65)),
    "deleted": lambda chance, content, _: None,
    "another checkpoint's": lambda chance, content, other: other,
}
"""What can be done to a file."""


@contextmanager
def corrupted(chance: random.Random, kind: str, checkpoint: Path, other: Path) -> Iterator[str]:
    """Corrupt one file of `checkpoint` for as long as the context lasts; its value says which."""
    # A file that is the same in both cannot be told from its namesake, nor need it be.
    files = [
        file
        for file in sorted(checkpoint.iterdir())
        if KINDS[kind] is not KINDS["another checkpoint's"] or file.read_bytes() != (other / file.name).read_bytes()
    ]
    file = chance.choice(files)
    content = file.read_bytes()
    changed = KINDS[kind](chance, content, (other / file.name).read_bytes())
    try:
        if changed is None:
            file.unlink()
        else:
            file.write_bytes(changed)
        yield f"{file.name}: {kind}"
    finally:
        file.write_bytes(content)


@dataclass
class Tally:
    """Corruptions by kind."""

    tried: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"| {kind} | {self.tried[kind]} | {self.found[kind]} |" for kind in self.tried]
        table = ["| corruption | tried | found |", "| --- | ---: | ---: |", *rows]
        return "\n".join([*table, *(f"missed: {description}" for description in self.missed)])


def corrupt(count: int, seed: int, checkpoint: Path, other: Path) -> Tally:
    """Try `count` changed bytes, and a fifth as many corruptions of every other kind."""
    chance, tally = random.Random(seed), Tally()
    for kind in KINDS:
        for _ in range(count if kind == "a byte changed" else -(-count // 5)):
            tally.tried[kind] += 1
            with corrupted(chance, kind, checkpoint, other) as description:
                try:
                    open_checkpoint(checkpoint)
                except InputError:
                    tally.found[kind] += 1
                else:
                    tally.missed.append(description)
    open_checkpoint(checkpoint)
    return tally


def main() -> int:
    """The exit code: 0 when every corruption was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="changed bytes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arguments = ["run", str(write_recipe(folder)), "--out", str(folder / "run"), "--set", "train.steps=6"]
        if command(arguments, folder / "output.log") != 0:
            raise RuntimeError((folder / "output.log").read_text())
        checkpoint, other, *_ = checkpoint_folders(folder / "run" / "checkpoints")
        tally = corrupt(options.count, options.seed, checkpoint, other)
    print(tally)  # noqa: T201 -- what the script is for
    return 1 if tally.missed else 0


if __name__ == "__main__":
    sys.exit(main())
