"""Generates the images that a sampling command requests, and writes them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpmkit.cli.options import PluginChoice
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError
from ddpmkit.plural import counted

if TYPE_CHECKING:
    from torch import Tensor

    from ddpmkit.experiment import Run
    from ddpmkit.sampling.generate import ImageGenerator

__all__ = ["SamplingRequest"]

_OTHER_FORMATS = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".npy", ".npz")


@dataclass(frozen=True)
class SamplingRequest:
    """Which images to generate, from which weights, and where to write them."""

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
        """Raises InputError for another image format, before anything heavy is imported."""
        if self.out is not None and self.out.suffix.lower() in _OTHER_FORMATS:
            raise InputError(
                f"--out {self.out}: images are written as PNG.", remedies=[f"use --out {self.out.with_suffix('.png')}"]
            )

    def generate(
        self,
        terminal: Terminal,
        adapt: Callable[["Run", "ImageGenerator"], "ImageGenerator"] = lambda _run, generator: generator,
        *,
        facts: Iterable[str] = (),
        columns: int | None = None,
    ) -> None:
        """Generate images with the run's generator, changed by `adapt`, and write a grid or separate files.

        `facts` describe what the images depend on in addition to the shared options; they become part of the file name.
        """
        from ddpmkit.cli.live_panel import open_display

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
            generator = adapt(run, run.generator(self.weights, self.steps, self.class_name))
            images = run.generate(generator, self.count, seed, display)

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
        """Raise InputError, before any work, if `out` contains files of the user that would be replaced or mixed with.

        A grid in a folder is safe: its name contains everything that it depends on.
        """
        from ddpmkit.run_folder import check_replaceable

        if self.out is None:
            return
        if self.out.suffix.lower() == ".png" and not self.separate:
            check_replaceable([self.out])
        elif self.separate and self.out.exists():
            check_replaceable(sorted(self.out.iterdir()))

    def _name(self, seed: int, step: int, facts: Iterable[str]) -> str:
        """Return a name that contains all that the images depend on, and that no grid of the run itself has."""
        parts = [f"seed-{seed}", f"n-{self.count}", f"at-{step:08d}"]
        parts += [f"{self.steps}-steps"] if self.steps else []
        named = [self.class_name] if self.class_name else []
        parts += [re.sub(r"[^\w.=]+", "_", fact) for fact in (*named, *facts, *self.overrides)]
        return "-".join([*parts, self.weights] if self.weights else parts)


def _write_separate(images: "Tensor", folder: Path) -> Path:
    """Write uint8 [N, C, H, W] as one file per image, numbered from 0."""
    from PIL import Image

    from ddpmkit.sampling.image_grid import save_png

    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        grey = pixels.shape[2] == 1
        save_png(Image.fromarray(pixels[:, :, 0] if grey else pixels), folder / f"{index:05d}.png")
    return folder
