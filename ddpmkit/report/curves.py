"""Line charts as inline SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

__all__ = ["Curve", "chart", "curve_style", "log_ticks", "smoothed", "ticks"]

_WIDTH, _HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 14, 34
_COLOURS = 5
_DASHES = 4
"""Line styles: after all colours are used, they are used again with the next style."""
_MOST_POINTS = 400
"""The maximum number of points of a line; longer curves are averaged over equal intervals."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A name and points (step, value), sorted by step. A `noisy` curve is drawn faintly behind its running mean."""

    name: str
    points: Points
    dashed: bool = False
    noisy: bool = False


class _Scale(NamedTuple):
    """A linear map from low .. high to pixels, for values or their logarithms."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        position = math.log10(value) if self.logarithmic else value
        share = (position - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.stop - self.start)


def chart(title: str, curves: Sequence[Curve], *, logarithmic: bool = False) -> Markup:
    """A chart with axes, ticks and a legend with the last value of each curve; empty if there are no points.

    The vertical axis starts at zero, or is logarithmic; a logarithmic axis skips values that are not positive.
    """
    usable = [(curve, _usable(curve.points, logarithmic)) for curve in curves]
    usable = [(curve, points) for curve, points in usable if points]
    if not usable:
        return Markup()
    last_step = max(points[-1][0] for _, points in usable)
    values = [math.log10(value) if logarithmic else value for _, points in usable for _, value in points]
    lowest = min(values) if logarithmic else min(0.0, *values)
    x = _Scale(0.0, last_step, _LEFT, _WIDTH - _RIGHT)
    y = _Scale(lowest, max(values), _HEIGHT - _BOTTOM, _TOP, logarithmic)
    parts, legend, spoken = [*_vertical_axis(y), *_horizontal_axis(x)], [], []
    for number, (curve, points) in enumerate(usable):
        line = smoothed(points) if curve.noisy else points
        style = curve_style(number)
        if curve.noisy and len(usable) <= _COLOURS:  # with many curves, they would cover each other
            parts.append(_line(points, x, y, f"{style} faint"))
        parts.append(_line(line, x, y, f"{style} dashed" if curve.dashed else style))
        name, last = escape(curve.name), f"{line[-1][1]:.4g}"
        legend.append(f'<span class="key {style}">{name} <b>{last}</b></span>')
        spoken.append(f"{name} ends at {last}")
    # All text from outside was escaped above.
    return Markup(
        f'<figure class="chart"><figcaption>{escape(title)}{" (log scale)" if logarithmic else ""}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}: {", ".join(spoken)}">'
        f"{''.join(parts)}</svg><p>{''.join(legend)}</p></figure>"
    )


def curve_style(number: int) -> str:
    """The CSS classes of the curve with this index: its colour, and its dashes after all colours are used."""
    dashes = number // _COLOURS % _DASHES
    return f"c{number % _COLOURS} d{dashes}" if dashes else f"c{number % _COLOURS}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from low to high, at most `most` + 1."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Exponents (base 10) of round numbers between the exponents low and high.

    The round numbers are 1, 2 and 5 times powers of ten; powers of ten only, if there would be more than seven; the
    values of `ticks`, if there would be fewer than two.
    """
    powers = range(math.floor(low), math.ceil(high) + 1)
    fine = [power + math.log10(factor) for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in fine if low - 1e-9 <= tick <= high + 1e-9]
    if len(inside) > 7:
        return [float(power) for power in powers if low <= power <= high]
    return inside if len(inside) > 1 else [math.log10(tick) for tick in ticks(10**low, 10**high, 4)]


def smoothed(points: Points) -> Points:
    """The mean over a centred window of a twentieth of the curve, truncated at both ends."""
    reach, sums = len(points) // 40, [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    line = []
    for place, (step, _) in enumerate(points):
        first, end = max(0, place - reach), min(len(points), place + reach + 1)
        line.append((step, (sums[end] - sums[first]) / (end - first)))
    return line


def _line(points: Points, x: _Scale, y: _Scale, style: str) -> str:
    places = [f"{x(step):.1f},{y(value):.1f}" for step, value in _thinned(points)]
    if len(places) == 1:
        across, down = places[0].split(",")
        return f'<circle class="dot {style}" cx="{across}" cy="{down}" r="3"/>'
    return f'<polyline class="line {style}" points="{" ".join(places)}"/>'


def _vertical_axis(y: _Scale) -> Iterator[str]:
    marks = [10**tick for tick in log_ticks(y.low, y.high)] if y.logarithmic else ticks(y.low, y.high, 4)
    for mark in marks:
        at = y(mark)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{mark:,.8g}</text>'


def _horizontal_axis(x: _Scale) -> Iterator[str]:
    at = _HEIGHT - _BOTTOM
    yield f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
    for tick in ticks(x.low, x.high):
        yield f'<text class="tick" x="{x(tick):.1f}" y="{at + 16}" text-anchor="middle">{tick:,.10g}</text>'
    yield f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">step</text>'


def _usable(points: Points, logarithmic: bool) -> Points:
    return [(step, value) for step, value in points if math.isfinite(value) and (value > 0 or not logarithmic)]


def _thinned(points: Points) -> Points:
    """At most `_MOST_POINTS` means over neighbouring points; the last point is kept."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points) - 1, size)]
    means = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
    return [*means, points[-1]]
