"""Line charts as inline SVG: points in, markup out.

It does not know what the numbers mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

__all__ = ["Curve", "chart", "log_ticks", "ticks"]

_WIDTH, _HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 34
_MOST_POINTS = 400
"""More than a screen can show: longer curves are averaged over equal stretches of steps."""


@dataclass(frozen=True)
class Curve:
    """A name and its points (step, value), by step."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class _Scale(NamedTuple):
    """A straight map from low .. high to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.stop - self.start)


def chart(title: str, curves: Sequence[Curve], *, logarithmic: bool = False) -> Markup:
    """One chart with axes, ticks and a legend; empty when there is no point to draw.

    `logarithmic` values must be positive; others are left out.
    """
    drawn = [Curve(curve.name, _thinned(_usable(curve.points, logarithmic)), curve.dashed) for curve in curves]
    drawn = [curve for curve in drawn if curve.points]
    if not drawn:
        return Markup()
    steps = [step for curve in drawn for step, _ in curve.points]
    values = [math.log10(value) if logarithmic else value for curve in drawn for _, value in curve.points]
    x = _Scale(min(steps), max(steps), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(min(values), max(values), _HEIGHT - _BOTTOM, _TOP)
    parts = [*_vertical_axis(y, logarithmic), *_horizontal_axis(x)]
    for number, curve in enumerate(drawn):
        line = " ".join(f"{x(step):.1f},{y(math.log10(v) if logarithmic else v):.1f}" for step, v in curve.points)
        style = f"line c{number % 5}" + (" dashed" if curve.dashed else "")
        mark = _dot(line, number) if len(curve.points) == 1 else f'<polyline class="{style}" points="{line}"/>'
        parts.append(mark)
    legend = "".join(f'<span class="key c{n % 5}">{escape(curve.name)}</span>' for n, curve in enumerate(drawn))
    label = f"{escape(title)}: " + ", ".join(f"{escape(c.name)} ends at {c.points[-1][1]:.4g}" for c in drawn)
    body = "".join(parts)
    # Everything that came from outside has been escaped above.
    return Markup(
        f'<figure class="chart"><figcaption>{escape(title)}{" (log scale)" if logarithmic else ""}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{body}</svg>'
        f"<p>{legend}</p></figure>"
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from low to high, `most` or one more of them."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Exponents of 1, 2 and 5 times powers of ten, from exponent low to high; of the powers alone if those are many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    fine = [power + math.log10(factor) for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in fine if low - 1e-9 <= tick <= high + 1e-9]
    return inside if len(inside) <= 7 else [float(power) for power in powers if low <= power <= high]


def _vertical_axis(y: _Scale, logarithmic: bool) -> list[str]:
    parts = []
    for tick in log_ticks(y.low, y.high) if logarithmic else ticks(y.low, y.high, 4):
        at, text = y(tick), f"{10**tick if logarithmic else tick:.3g}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    return parts


def _horizontal_axis(x: _Scale) -> list[str]:
    at = _HEIGHT - _BOTTOM
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>']
    for tick in ticks(x.low, x.high):
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{at + 16}" text-anchor="middle">{tick:,.10g}</text>')
    parts.append(f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">step</text>')
    return parts


def _dot(place: str, number: int) -> str:
    across, down = place.split(",")
    return f'<circle class="dot c{number % 5}" cx="{across}" cy="{down}" r="3"/>'


def _usable(points: Sequence[tuple[float, float]], logarithmic: bool) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(value) and (value > 0 or not logarithmic)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS` means over neighbours; the last point stays as it is."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points) - 1, size)]
    means = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
    return [*means, points[-1]]
