"""Corrupt a checkpoint of a real run at random, and count how often ddpmkit finds it.

    python tests/stress/corruptions.py --count 1000 --seed 0

The script changes `--count` single bytes, one at a time, and tries a fifth as many corruptions of every other kind:
truncated files, inserted and appended bytes, deleted files, and files of another checkpoint. It undoes each one after
`open_checkpoint` has read the checkpoint.
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
"""Maps the content of a file, and of its namesake in another checkpoint, to the corrupted content; None: delete."""


def _other_byte(rng: random.Random, content: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :]


def _one_bit(rng: random.Random, content: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _inserted(rng: random.Random, content: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(content))
    # A random byte, or one that a text reader may ignore.
    return content[:place] + rng.choice([rng.randbytes(1), b"\r", b"\n", b" ", b"\0"]) + content[place:]


def _line_end(rng: random.Random, content: bytes, _: bytes) -> bytes:
    """Change a line feed to a carriage return; in a file without line ends, change some byte to one."""
    places = [place for place, byte in enumerate(content) if byte == 0x0A]
    place = rng.choice(places) if places else rng.randrange(len(content))
    return content[:place] + (b"\r" if content[place] != 0x0D else b"\n") + content[place + 1 :]


KINDS: dict[str, Change] = {
    "a byte changed": _other_byte,
    "a bit flipped": _one_bit,
    "a line end changed": _line_end,
    "a byte inserted": _inserted,
    "truncated": lambda rng, content, _: content[: rng.randrange(len(content))],
    "bytes appended": lambda rng, content, _: content + rng.randbytes(rng.randrange(1, 65)),
    "deleted": lambda rng, content, _: None,
    "another checkpoint's": lambda rng, content, other: other,
}
"""The kinds of corruption of a file."""


@contextmanager
def corrupted(rng: random.Random, kind: str, checkpoint: Path, other: Path) -> Iterator[str]:
    """Corrupt one file of `checkpoint` inside the context, and yield a description."""
    # A file that is equal in both checkpoints cannot be detected, and need not be.
    files = [
        file
        for file in sorted(checkpoint.iterdir())
        if KINDS[kind] is not KINDS["another checkpoint's"] or file.read_bytes() != (other / file.name).read_bytes()
    ]
    file = rng.choice(files)
    content = file.read_bytes()
    changed = KINDS[kind](rng, content, (other / file.name).read_bytes())
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
    """Number of corruptions by kind."""

    tried: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"| {kind} | {self.tried[kind]} | {self.found[kind]} |" for kind in self.tried]
        table = ["| corruption | tried | found |", "| --- | ---: | ---: |", *rows]
        return "\n".join([*table, *(f"missed: {description}" for description in self.missed)])


def corrupt(count: int, seed: int, checkpoint: Path, other: Path) -> Tally:
    """Try `count` changed bytes, and a fifth as many corruptions of each other kind."""
    rng, tally = random.Random(seed), Tally()
    for kind in KINDS:
        for _ in range(count if kind == "a byte changed" else -(-count // 5)):
            tally.tried[kind] += 1
            with corrupted(rng, kind, checkpoint, other) as description:
                try:
                    open_checkpoint(checkpoint)
                except InputError:
                    tally.found[kind] += 1
                else:
                    tally.missed.append(description)
    open_checkpoint(checkpoint)
    return tally


def main() -> int:
    """Return the exit code: 0 if every corruption was found."""
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
    print(tally)  # noqa: T201 -- the output of the script
    return 1 if tally.missed else 0


if __name__ == "__main__":
    sys.exit(main())
