"""`ddpmkit sample`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import PluginChoice, plugin_options, run_argument, seed_option, set_option
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["sample"]

_OTHER_FORMATS = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".npy", ".npz")


def _checked_weights(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    from ddpmkit.recipe import parse_weights

    try:
        return None if text is None else str(parse_weights(text))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


@click.command()
@run_argument
@click.option("-n", "--count", type=click.IntRange(min=1), default=16, show_default=True, help="How many images.")
@seed_option
@click.option("--steps", type=click.IntRange(min=1), help="Sampling steps.  [default: the recipe's]")
@click.option(
    "--weights",
    metavar="WHICH",
    callback=_checked_weights,
    help="raw, ema, or another average: decay=D, sigma_rel=S.  [default: the recipe's]",
)
@click.option("--class", "class_name", metavar="NAME", help="Of this class only, where the run knows classes.")
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A .png file, or a folder to put it in.  [default: RUN/samples]",
)
@click.option("--separate", is_flag=True, help="One PNG an image, at its own size, in a folder.")
@set_option
@plugin_options
@click.pass_obj
def sample(
    terminal: Terminal,
    run_folder: Path,
    count: int,
    seed: int | None,
    steps: int | None,
    weights: str | None,
    class_name: str | None,
    out: Path | None,
    separate: bool,
    overrides: tuple[str, ...],
    plugins: PluginChoice,
) -> None:
    """Draw new images from what a run has learned.

    RUN is its folder, or one checkpoint in it. The same seed gives the same images, however many are asked for.

    \b
    ddpmkit sample results/quickstart -n 64
    ddpmkit sample results/quickstart -n 1000 --seed 1 --separate --out critters/
    ddpmkit sample results/quickstart --set sampler.use=ddim --steps 10
    ddpmkit sample results/edm2 --weights sigma_rel=0.075
    ddpmkit sample results/afhq_all_conditional --class dog --set sampler.guidance=2
    """
    from ddpmkit.cli.display import open_display

    if out is not None and out.suffix.lower() in _OTHER_FORMATS:
        raise InputError(f"--out {out}: images are written as PNG.", remedies=[f"--out {out.with_suffix('.png')}"])
    with open_display(terminal) as display:
        from ddpmkit.experiment import load

        run = load(run_folder, overrides=overrides, registry=plugins.registry())
        seed = run.recipe.train.seed if seed is None else seed
        generator = run.generator(weights, steps, class_name)
        with display.work(f"{count} samples", generator.frame_count(count)) as advance:
            images = generator.images(range(count), seed, advance)

    # The name holds all that the images depend on, and none that a run gives to its own grids.
    facts = [f"seed-{seed}", f"n-{count}", f"at-{run.step:08d}"]
    facts += [f"{steps}-steps"] if steps else []
    facts += [class_name] if class_name else []
    facts += [re.sub(r"[^\w.=]+", "_", override) for override in overrides]
    name = "-".join([*facts, weights] if weights else facts)
    target = out or run.folder.path / "samples"
    if separate:
        folder = _write_separate(images, target if out else target / name)
        terminal.out.print(f"{count} images in {folder}")
    else:
        from ddpmkit.sampling.pictures import grid, save_png

        path = target if target.suffix.lower() == ".png" else target / f"{name}.png"
        terminal.out.print(str(save_png(grid(images), path)))


def _write_separate(images: "Tensor", folder: Path) -> Path:
    """One file an image, numbered from 0: uint8 [N, C, H, W]."""
    from PIL import Image

    from ddpmkit.sampling.pictures import save_png

    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        grey = pixels.shape[2] == 1
        save_png(Image.fromarray(pixels[:, :, 0] if grey else pixels), folder / f"{index:05d}.png")
    return folder
