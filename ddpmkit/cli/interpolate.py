"""`ddpmkit interpolate`: generate a row of images between two images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.sampling_options import sampling_options
from ddpmkit.cli.sampling_request import SamplingRequest
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError

if TYPE_CHECKING:
    from ddpmkit.experiment import Run
    from ddpmkit.sampling.generate import ImageGenerator

__all__ = ["interpolate"]


@click.command()
@sampling_options(default_count=8, least=2)
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="TO")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, min_open=True),
    help="How much noise is added to the two images; with less noise, the images between them are mere blends.  "
    "[default: 0.6]",
)
@click.pass_obj
def interpolate(terminal: Terminal, request: SamplingRequest, first: str, last: str, strength: float | None) -> None:
    """Generate a row of images between two images.

    FROM and TO are two image files, or two indices (from 0) of images that `sample` generates from the same seed.

    \b
    ddpmkit interpolate results/afhq_cat a.png b.png --strength 0.5
    ddpmkit interpolate results/afhq_cat 3 17 --seed 7 -n 12
    """
    ends = _end(first), _end(last)
    if strength is not None and int in map(type, ends):
        raise InputError("--strength applies only to image files: samples start from pure noise.")

    def adapt(run: "Run", generator: "ImageGenerator") -> "ImageGenerator":
        from ddpmkit.sampling.editing import STRENGTH

        return run.interpolation(generator, *ends, request.count, strength or STRENGTH)

    names = (str(end) if isinstance(end, int) else end.stem for end in ends)
    facts = [f"{word}={name}" for word, name in zip(("from", "to"), names, strict=True)]
    facts += [f"strength={strength:g}"] if strength else []
    request.generate(terminal, adapt, facts=facts, columns=request.count)


def _end(text: str) -> Path | int:
    return int(text) if text.isdecimal() and not Path(text).exists() else Path(text)
