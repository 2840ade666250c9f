"""`ddpmkit interpolate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.sampling_options import Drawing, drawing_options
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError

if TYPE_CHECKING:
    from ddpmkit.experiment import Run
    from ddpmkit.sampling.generate import ImageGenerator

__all__ = ["interpolate"]


@click.command()
@drawing_options(default_count=8, least=2)
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="TO")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, min_open=True),
    help="How far pictures are noised; the less, the more the images are a mere mixture.  [default: 0.6]",
)
@click.pass_obj
def interpolate(terminal: Terminal, drawing: Drawing, first: str, last: str, strength: float | None) -> None:
    """Draw a row of images that leads from one to another.

    FROM and TO are two pictures, or two numbers: the images of that seed, counted from 0 as `sample` draws them.

    \b
    ddpmkit interpolate results/afhq_cat a.png b.png --strength 0.5
    ddpmkit interpolate results/afhq_cat 3 17 --seed 7 -n 12
    """
    ends = _end(first), _end(last)
    if strength is not None and int in map(type, ends):
        raise InputError("--strength says how far pictures are noised, and samples begin as noise.")

    def mode(run: "Run", generator: "ImageGenerator") -> "ImageGenerator":
        from ddpmkit.sampling.editing import STRENGTH

        return run.interpolated(generator, *ends, drawing.count, strength or STRENGTH)

    names = (str(end) if isinstance(end, int) else end.stem for end in ends)
    facts = [f"{word}={name}" for word, name in zip(("from", "to"), names, strict=True)]
    facts += [f"strength={strength:g}"] if strength else []
    drawing.draw(terminal, mode, facts=facts, columns=drawing.count)


def _end(text: str) -> Path | int:
    return int(text) if text.isdecimal() and not Path(text).exists() else Path(text)
