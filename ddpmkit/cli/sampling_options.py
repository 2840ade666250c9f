"""What commands that draw images have in common: their options, and the files they write.

It does not know in what mode the images are drawn.
"""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpmkit.cli.options import (
    PluginChoice,
    given_path,
    plugin_options,
    run_argument,
    seed_option,
    set_option,
    trust_option,
)
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError
from ddpmkit.plural import counted

if TYPE_CHECKING:
    from torch import Tensor

    from ddpmkit.experiment import Run
    from ddpmkit.sampling.generate import ImageGenerator

__all__ = ["Drawing", "drawing_options", "picture_path"]

_OTHER_FORMATS = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".npy", ".npz")

Command = Callable[..., Any]

picture_path = given_path
"""The type of an option that names a picture; what is wrong with it is said where it is opened."""


@dataclass(frozen=True)
class Drawing:
    """Which images, from which weights, and where to."""

    run_folder: Path
    count: int
    seed: int | None
    steps: int | None
    weights: str | None
    class_name: str | None
    out: Path | None
    separate: bool
    overrides: tuple[str, ...]
    trust: bool
    plugins: PluginChoice

    def __post_init__(self) -> None:
        """Raises InputError for a file of another kind, before anything heavy is imported."""
        if self.out is not None and self.out.suffix.lower() in _OTHER_FORMATS:
            raise InputError(
                f"--out {self.out}: images are written as PNG.", remedies=[f"--out {self.out.with_suffix('.png')}"]
            )

    def draw(
        self,
        terminal: Terminal,
        mode: Callable[["Run", "ImageGenerator"], "ImageGenerator"] = lambda _run, generator: generator,
        *,
        facts: Iterable[str] = (),
        columns: int | None = None,
    ) -> None:
        """Draw by what `mode` makes of the run's generator, and write a grid, or each image by itself.

        `facts` are what the images depend on besides the common options; they go into the name of what is written.
        """
        from ddpmkit.cli.display import open_display

        with open_display(terminal) as display:
            from ddpmkit.experiment import load

            self._check_out()
            run = load(
                self.run_folder,
                overrides=self.overrides,
                registry=self.plugins.registry(),
                trust=self.trust,
                purpose="sample",
            )
            if self.out is None:
                run.folder.check()
            seed = run.recipe.train.seed if self.seed is None else self.seed
            generator = mode(run, run.generator(self.weights, self.steps, self.class_name))
            images = run.draw(generator, self.count, seed, display)

        name = self._name(seed, run.step, facts)
        target = self.out or run.folder.path / "samples"
        if self.separate:
            folder = _write_separate(images, target if self.out else target / name)
            terminal.out.print(f"{counted(self.count, 'image')} in {folder}")
        else:
            from ddpmkit.sampling.image_grid import grid, save_png

            path = target if target.suffix.lower() == ".png" else target / f"{name}.png"
            terminal.out.print(str(save_png(grid(images, columns), path)))

    def _check_out(self) -> None:
        """Raises InputError, before any work, if `out` holds someone's own files that would be replaced or mixed with.

        The name of a grid in a folder says all that it depends on: it stands beside other files without harm.
        """
        from ddpmkit.run_folder import check_replaceable

        if self.out is None:
            return
        if self.out.suffix.lower() == ".png" and not self.separate:
            check_replaceable([self.out])
        elif self.separate and self.out.exists():
            check_replaceable(sorted(self.out.iterdir()))

    def _name(self, seed: int, step: int, facts: Iterable[str]) -> str:
        """All that the images depend on, and none that a run gives to its own grids."""
        said = [f"seed-{seed}", f"n-{self.count}", f"at-{step:08d}"]
        said += [f"{self.steps}-steps"] if self.steps else []
        named = [self.class_name] if self.class_name else []
        said += [re.sub(r"[^\w.=]+", "_", fact) for fact in (*named, *facts, *self.overrides)]
        return "-".join([*said, self.weights] if self.weights else said)


def drawing_options(default_count: int, least: int = 1) -> Callable[[Command], Command]:
    """Add the argument RUN and the common options; the command gets them as `drawing`, a `Drawing`."""

    def decorate(command: Command) -> Command:
        @run_argument
        @click.option(
            "-n",
            "--count",
            type=click.IntRange(min=least),
            default=default_count,
            show_default=True,
            help="How many images.",
        )
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
            type=given_path,
            help="A .png file, or a folder to put it in.  [default: RUN/samples]",
        )
        @click.option("--separate", is_flag=True, help="One PNG an image, at its own size, in a folder.")
        @set_option
        @trust_option
        @plugin_options
        @functools.wraps(command)
        def with_drawing(
            *args: Any,
            run_folder: Path,
            count: int,
            seed: int | None,
            steps: int | None,
            weights: str | None,
            class_name: str | None,
            out: Path | None,
            separate: bool,
            overrides: tuple[str, ...],
            trust: bool,
            plugins: PluginChoice,
            **kwargs: Any,
        ) -> Any:
            drawing = Drawing(
                run_folder, count, seed, steps, weights, class_name, out, separate, overrides, trust, plugins
            )  # fmt: skip
            return command(*args, drawing=drawing, **kwargs)

        return with_drawing

    return decorate


def _checked_weights(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    from ddpmkit.recipe import parse_weights

    try:
        return None if text is None else str(parse_weights(text))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _write_separate(images: "Tensor", folder: Path) -> Path:
    """One file an image, numbered from 0: uint8 [N, C, H, W]."""
    from PIL import Image

    from ddpmkit.sampling.image_grid import save_png

    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        grey = pixels.shape[2] == 1
        save_png(Image.fromarray(pixels[:, :, 0] if grey else pixels), folder / f"{index:05d}.png")
    return folder
