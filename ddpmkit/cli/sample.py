"""`ddpmkit sample`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.sampling_options import Drawing, drawing_options, picture_path
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError

if TYPE_CHECKING:
    from ddpmkit.experiment import Run
    from ddpmkit.sampling.generate import ImageGenerator

__all__ = ["sample"]


@click.command()
@drawing_options(default_count=16)
@click.option("--from", "picture", metavar="PICTURE", type=picture_path, help="Begin with this picture, noised.")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, min_open=True),
    help="How far the picture is noised; at 1 nothing is left of it.  [default: 0.6, with --mask 1]",
)
@click.option("--mask", metavar="PICTURE", type=picture_path, help="Paint what is white here; all else stays.")
@click.option(
    "--resample",
    metavar="N",
    type=click.IntRange(min=1),
    help="Walk each tenth of the process N times, so that the painted part fits.  [default: 4]",
)
@click.pass_obj
def sample(
    terminal: Terminal,
    drawing: Drawing,
    picture: Path | None,
    strength: float | None,
    mask: Path | None,
    resample: int | None,
) -> None:
    """Draw new images from what a run has learned.

    RUN is its folder, or one checkpoint in it. The same seed gives the same images, however many are asked for.

    \b
    ddpmkit sample results/quickstart -n 64
    ddpmkit sample results/quickstart -n 1000 --seed 1 --separate --out critters/
    ddpmkit sample results/quickstart --set sampler.use=ddim --steps 10
    ddpmkit sample results/edm2 --weights sigma_rel=0.075
    ddpmkit sample results/afhq_all_conditional --class dog --set sampler.guidance=2
    ddpmkit sample results/afhq_cat --from cat.jpg --strength 0.4
    ddpmkit sample results/afhq_cat --from cat.jpg --mask mask.png
    """
    if picture is None:
        for option, value in (("--strength", strength), ("--mask", mask)):
            if value is not None:
                raise InputError(
                    f"{option} says what becomes of a picture, and there is none.", remedies=["--from PICTURE"]
                )
    if mask is None and resample is not None:
        raise InputError("--resample is for what a mask leaves to paint.", remedies=["--mask PICTURE"])
    if picture is None:
        drawing.draw(terminal)
        return

    def mode(run: "Run", generator: "ImageGenerator") -> "ImageGenerator":
        from ddpmkit.sampling.editing import RESAMPLE, STRENGTH, edited, inpainted

        given = run.picture(picture)
        if mask is None:
            return edited(generator, given, strength or STRENGTH)
        return inpainted(edited(generator, given, strength or 1), given, run.mask(mask), resample or RESAMPLE)

    facts = [f"from={picture.stem}"]
    facts += [f"mask={mask.stem}"] if mask else []
    facts += [f"strength={strength:g}"] if strength else []
    facts += [f"resample={resample}"] if resample else []
    drawing.draw(terminal, mode, facts=facts)
