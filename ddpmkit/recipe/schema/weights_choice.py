"""`WeightsChoice`: which weights of a run to use, those of the last step or one of their averages."""

import math
from dataclasses import dataclass
from typing import Literal

from ddpmkit.recipe.toml.writer import toml_value

__all__ = ["LARGEST_SIGMA_REL", "SMALLEST_SIGMA_REL", "WeightsChoice", "parse_weights"]

SMALLEST_SIGMA_REL = 0.001
LARGEST_SIGMA_REL = 0.28
"""Close to 1 / sqrt(12), the width of a uniform average over all steps; a power function can hardly be wider."""


@dataclass(frozen=True)
class WeightsChoice:
    """`raw`: the weights of the last step. `ema`, `decay` and `sigma_rel`: averages, the last two with a value."""

    kind: Literal["raw", "ema", "decay", "sigma_rel"]
    value: float = 0.0

    def __str__(self) -> str:
        """The canonical form: `raw`, `ema`, `decay=0.9999` or `sigma_rel=0.05`."""
        return self.kind if self.kind in ("raw", "ema") else f"{self.kind}={self.value!r}"


def parse_weights(text: str) -> WeightsChoice:
    """Return the choice with this `str`; the number may be written in any form. Raises ValueError for other text."""
    kind, _, number = text.partition("=")
    if text == "raw":
        return WeightsChoice("raw")
    if text == "ema":
        return WeightsChoice("ema")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if kind == "decay" and 0 < value < 1:
        return WeightsChoice("decay", value)
    if kind == "sigma_rel" and SMALLEST_SIGMA_REL <= value <= LARGEST_SIGMA_REL:
        return WeightsChoice("sigma_rel", value)
    raise ValueError(
        'must be "ema", "raw", "decay=D" with D between 0 and 1, such as "decay=0.9999", or "sigma_rel=S" with S from '
        f'{SMALLEST_SIGMA_REL} to {LARGEST_SIGMA_REL}, such as "sigma_rel=0.05", but is {toml_value(text)}'
    )
