"""Which weights draw images, as a recipe or a command line writes it.

It does not know where weights are kept.
"""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["LARGEST_SIGMA_REL", "SMALLEST_SIGMA_REL", "Weights", "parse_weights"]

SMALLEST_SIGMA_REL = 0.001
LARGEST_SIGMA_REL = 0.28
"""Near that of the average in which all steps count alike, 1 / sqrt(12): a power function can hardly be wider."""


@dataclass(frozen=True)
class Weights:
    """`raw`: as the last step left them. `ema`, `decay` and `sigma_rel`: averages, the last two with a value."""

    kind: Literal["raw", "ema", "decay", "sigma_rel"]
    value: float = 0.0

    def __str__(self) -> str:
        """In its one spelling: `raw`, `ema`, `decay=0.9999`, `sigma_rel=0.05`."""
        return self.kind if self.kind in ("raw", "ema") else f"{self.kind}={self.value!r}"


def parse_weights(text: str) -> Weights:
    """Read what `str` of the weights gives, in any spelling of the number. Raises ValueError for anything else."""
    kind, _, number = text.partition("=")
    if text == "raw":
        return Weights("raw")
    if text == "ema":
        return Weights("ema")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if kind == "decay" and 0 < value < 1:
        return Weights("decay", value)
    if kind == "sigma_rel" and SMALLEST_SIGMA_REL <= value <= LARGEST_SIGMA_REL:
        return Weights("sigma_rel", value)
    raise ValueError(
        f'{text!r} is none of "ema", "raw", "decay=D" with D between 0 and 1, such as "decay=0.9999", and '
        f'"sigma_rel=S" with S from {SMALLEST_SIGMA_REL} to {LARGEST_SIGMA_REL}, such as "sigma_rel=0.05"'
    )
