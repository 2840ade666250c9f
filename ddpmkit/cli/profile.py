"""`ddpmkit profile`: measure the time that each phase of a training step takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import PluginChoice, path_type, plugin_options, set_option, trust_option
from ddpmkit.cli.terminal import Terminal, aligned
from ddpmkit.plural import counted

if TYPE_CHECKING:
    from ddpmkit.experiment.profile import Profile

__all__ = ["profile"]


@click.command()
@click.argument("recipe", type=path_type)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Steps to measure.")
@set_option
@trust_option
@plugin_options
@click.pass_obj
def profile(
    terminal: Terminal, recipe: Path, steps: int, overrides: tuple[str, ...], trust: bool, plugins: PluginChoice
) -> None:
    """Show how long each phase of a training step takes.

    Takes a few steps of RECIPE and discards them. The matmul rate is the speed of this machine in one large matrix
    product, the copy rate its speed in one large copy. The bytes of a step are what its operators read and write;
    caches can make the traffic of the memory smaller. On a CUDA device, phases are timed in a step that waits for the
    device after each of them, and the step itself as a run takes it.

    \b
    ddpmkit profile recipes/afhq_cat.toml
    ddpmkit profile recipes/afhq_cat.toml --set backbone.linear_attention_levels=[]
    """
    from ddpmkit.cli.live_panel import open_display
    from ddpmkit.recipe import read_recipe, reject_unused_overrides

    reject_unused_overrides(
        overrides, ("data", "diffusion", "schedule", "backbone", "loss", "train"), "ddpmkit profile"
    )
    resolved = read_recipe(recipe, overrides=overrides, registry=plugins.registry(), trust=trust)
    with open_display(terminal) as display:
        from ddpmkit.experiment.profile import profile as measure

        with display.progress(counted(steps, "training step"), steps) as advance:
            found = measure(resolved, steps, advance)
    for line in aligned(list(_rows(found))):
        terminal.out.print(line)


def _rows(found: "Profile") -> Iterator[tuple[str, str]]:
    """Label and text of each line, with the phases in order."""
    yield "step", f"{_milliseconds(found.seconds)}        {1 / found.seconds:.3g} steps/s on {found.device}"
    if found.phased_seconds != found.seconds:
        yield "step in phases", _milliseconds(found.phased_seconds)
    rest = found.phased_seconds - sum(found.phases.values())
    for name, seconds in {**found.phases, "other": rest}.items():
        yield f"  {name}", f"{_milliseconds(seconds)}  {seconds / found.phased_seconds:4.0%}"
    if found.kernels is not None:
        yield "kernels a step", f"{found.kernels.number:,.0f}, {1e3 * found.kernels.seconds:.2f} ms"
        yield "device waits", f"{found.idle_share:.0%} of a step"
    yield "images/s", f"{found.batch_size / found.seconds:,.1f}"
    yield "parameters", f"{found.parameters:,}"
    yield "FLOP a step", f"{found.flops / 1e9:,.2f} G"
    yield "matmul rate", _of_rate(found.matmul_rate, "FLOP/s", found.share_of_matmul_rate)
    yield "bytes a step", f"{found.bytes_moved / 1e9:,.2f} G"
    yield "copy rate", _of_rate(found.copy_rate, "B/s", found.share_of_copy_rate)
    if found.peak_memory is not None:
        yield "peak memory", f"{found.peak_memory / 1e6:,.0f} MB"


def _of_rate(rate: float, unit: str, share: float) -> str:
    return f"{rate / 1e9:,.0f} G{unit}; a step reaches {share:.0%} of it"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:8.2f} ms"
