"""`ddpmkit sample`: generate images with the network of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import path_type
from ddpmkit.cli.sampling_options import sampling_options
from ddpmkit.cli.sampling_request import SamplingRequest
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError

if TYPE_CHECKING:
    from ddpmkit.experiment import Run
    from ddpmkit.sampling.generate import ImageGenerator

__all__ = ["sample"]


@click.command()
@sampling_options(default_count=16)
@click.option("--from", "image", metavar="IMAGE", type=path_type, help="Start from this image, with noise added.")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, min_open=True),
    help="How much noise is added to the image; at 1, nothing of it is left.  [default: 0.6, with --mask 1]",
)
@click.option("--mask", metavar="IMAGE", type=path_type, help="Inpaint the white area of this mask; keep the rest.")
@click.option(
    "--resample",
    metavar="N",
    type=click.IntRange(min=1),
    help="With --mask: repeat each tenth of the process N times, so that the inpainted area fits.  [default: 4]",
)
@click.pass_obj
def sample(
    terminal: Terminal,
    request: SamplingRequest,
    image: Path | None,
    strength: float | None,
    mask: Path | None,
    resample: int | None,
) -> None:
    """Generate images from a trained run.

    RUN is a run folder, or one checkpoint in it. The same seed gives the same images, whatever their number.

    \b
    ddpmkit sample results/quickstart -n 64
    ddpmkit sample results/quickstart -n 1000 --seed 1 --separate --out critters/
    ddpmkit sample results/quickstart --set sampler.use=ddim --steps 10
    ddpmkit sample results/edm2 --weights sigma_rel=0.075
    ddpmkit sample results/afhq_all_conditional --class dog --set sampler.guidance=2
    ddpmkit sample results/afhq_cat --from cat.jpg --strength 0.4
    ddpmkit sample results/afhq_cat --from cat.jpg --mask mask.png
    """
    if image is None:
        for option, value in (("--strength", strength), ("--mask", mask)):
            if value is not None:
                raise InputError(f"{option} needs an image to start from.", remedies=["add --from IMAGE"])
    if mask is None and resample is not None:
        raise InputError("--resample needs a mask.", remedies=["add --mask IMAGE"])
    if image is None:
        request.generate(terminal)
        return

    def adapt(run: "Run", generator: "ImageGenerator") -> "ImageGenerator":
        from ddpmkit.sampling.editing import RESAMPLE, STRENGTH, image_to_image, inpainting

        given = run.open_image(image)
        if mask is None:
            return image_to_image(generator, given, strength or STRENGTH)
        return inpainting(
            image_to_image(generator, given, strength or 1), given, run.open_mask(mask), resample or RESAMPLE
        )

    facts = [f"from={image.stem}"]
    facts += [f"mask={mask.stem}"] if mask else []
    facts += [f"strength={strength:g}"] if strength else []
    facts += [f"resample={resample}"] if resample else []
    request.generate(terminal, adapt, facts=facts)
