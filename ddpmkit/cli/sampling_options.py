"""The options that `sample` and `interpolate` share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ddpmkit.cli.options import (
    PluginChoice,
    path_type,
    plugin_options,
    run_argument,
    seed_option,
    set_option,
    trust_option,
)
from ddpmkit.cli.sampling_request import SamplingRequest

__all__ = ["sampling_options"]

Command = Callable[..., Any]


def sampling_options(default_count: int, least: int = 1) -> Callable[[Command], Command]:
    """Add the argument RUN and the shared options; the command receives them as `request`, a `SamplingRequest`."""

    def decorate(command: Command) -> Command:
        @run_argument
        @click.option(
            "-n",
            "--count",
            type=click.IntRange(min=least),
            default=default_count,
            show_default=True,
            help="The number of images.",
        )
        @seed_option
        @click.option("--steps", type=click.IntRange(min=1), help="Sampling steps.  [default: the recipe's]")
        @click.option(
            "--weights",
            metavar="WHICH",
            callback=_checked_weights,
            help="raw, ema, or another average: decay=D, sigma_rel=S.  [default: the recipe's]",
        )
        @click.option("--class", "class_name", metavar="NAME", help="Generate this class only (conditional runs).")
        @click.option(
            "--out",
            metavar="PATH",
            type=path_type,
            help="A .png file, or a folder to write to.  [default: RUN/samples]",
        )
        @click.option("--separate", is_flag=True, help="Write one PNG per image to a folder, instead of a grid.")
        @set_option
        @trust_option
        @plugin_options
        @functools.wraps(command)
        def with_request(
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
            request = SamplingRequest(
                run_folder, count, seed, steps, weights, class_name, out, separate, overrides, trust, plugins
            )  # fmt: skip
            return command(*args, request=request, **kwargs)

        return with_request

    return decorate


def _checked_weights(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    from ddpmkit.recipe import parse_weights

    try:
        return None if text is None else str(parse_weights(text))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error
