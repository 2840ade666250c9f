"""Draws cartoon faces from random numbers: signed distances to a few shapes, blended with antialiased edges.

Many faces are drawn at the same time: every number is an array over faces. Coordinates: the shorter side of an image
spans -1 .. 1, and y points down. Edges are one pixel wide, so that a face looks the same at any size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["DRAWING_VERSION", "SPECIES", "draw_faces"]

DRAWING_VERSION = 2
"""Increased when the drawings change; part of the dataset's fingerprint."""

SPECIES = ("cat", "dog", "wild")

Array = NDArray[np.floating[Any]]
"""float32 throughout."""
Number = float | Array
"""The same for every face, or one for each: [N, 1, 1]."""
Colour = Array
"""RGB in 0 .. 1: [N, 1, 1, 3], or [3] for every face."""
Distance = Array
"""To a shape's edge, negative inside: [N, H, W]."""

Corner = tuple[Number, Number]

_NUMBERS_PER_FACE = 128


class Dice:
    """Random numbers: one stream for each face, all read at the same position."""

    def __init__(self, streams: Sequence[Generator]) -> None:
        """Generates all random numbers in advance: no face needs more than `_NUMBERS_PER_FACE`."""
        numbers = np.stack([stream.random(_NUMBERS_PER_FACE, dtype=np.float32) for stream in streams])
        self._numbers = iter(numbers.T[:, :, None, None])

    def __call__(self, low: float, high: float) -> Array:
        """Uniform in low .. high."""
        return np.asarray(low + (high - low) * next(self._numbers), dtype=np.float32)

    def chance(self, probability: float) -> Array:
        """1 with this probability, otherwise 0."""
        return np.asarray(next(self._numbers) < probability, dtype=np.float32)

    def side(self) -> Array:
        """-1 or 1."""
        return 2 * self.chance(0.5) - 1

    def which(self, count: int) -> Array:
        """0 .. count - 1."""
        return np.asarray(np.floor(next(self._numbers) * count))

    def colour(self, choices: Sequence[tuple[float, float, float]]) -> Colour:
        """One of the colours, given as hue, saturation and value, with a small random offset."""
        picked = np.array(choices, dtype=np.float32)[self.which(len(choices)).astype(np.int64)]
        offset = np.stack([self(-0.015, 0.015), self(-0.06, 0.06), self(-0.06, 0.06)], axis=-1)
        return _rgb(*np.moveaxis(picked + offset, -1, 0))


class Canvas:
    """The pixels of all faces, and their coordinates relative to each head."""

    def __init__(self, dice: Dice, height: int, width: int) -> None:
        """A background that becomes darker downwards, and a head that is shifted, rotated and scaled."""
        span = min(height, width)
        rows = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * 2 / span
        columns = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * 2 / span
        y, x = (axis[None] for axis in np.meshgrid(rows, columns, indexing="ij"))
        sky = _rgb(dice(0, 1), dice(0.15, 0.5), dice(0.55, 0.95))
        down = ((y + 1) / 2).clip(0, 1)[..., None]
        self.pixels = sky * (1 - down * dice(0.15, 0.4)[..., None])
        angle, scale = dice(-0.22, 0.22), dice(0.88, 1.06)
        x, y = (x - dice(-0.09, 0.09)) / scale, (y - dice(0.0, 0.14)) / scale
        self.x, self.y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        self._edge = 2 / span / scale

    def light(self) -> None:
        """Soft light from the upper left over everything drawn so far."""
        far = np.hypot(self.x + 0.3, self.y + 0.4).clip(max=2)
        self.pixels *= (1.1 - 0.17 * far)[..., None]

    def fill(self, distance: Distance, colour: Colour, within: Distance | None = None, where: Number = 1.0) -> None:
        """Fill a shape with a colour: only inside `within`, and only for faces with `where` 1."""
        cover = self._cover(distance) * where
        if within is not None:
            cover = cover * self._cover(within)
        self.pixels += cover[..., None] * (colour - self.pixels)

    def ellipse(self, x: Number, y: Number, rx: Number, ry: Number, angle: float = 0.0) -> Distance:
        """Distance to an ellipse: exact for circles, to first order otherwise."""
        u, v = self.x - x, self.y - y
        if angle:
            u, v = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
        u, v = u / rx, v / ry
        radius = np.hypot(u, v) + np.float32(1e-6)
        return np.asarray((radius - 1) * radius / np.maximum(np.hypot(u / rx, v / ry), np.float32(1e-6)))

    def triangle(self, *corners: Corner) -> Distance:
        """Distance to a triangle with clockwise corners: the largest distance to one of its three half-planes."""
        sides = []
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
            length = np.hypot(bx - ax, by - ay)
            sides.append(((self.x - ax) * (by - ay) - (self.y - ay) * (bx - ax)) / length)
        return np.asarray(np.maximum.reduce(sides))

    def stroke(self, ax: Number, ay: Number, bx: Number, by: Number, thickness: float) -> Distance:
        """Distance to a line with round ends; `thickness` is half its width."""
        dx, dy = bx - ax, by - ay
        along = (((self.x - ax) * dx + (self.y - ay) * dy) / (dx * dx + dy * dy)).clip(0, 1)
        return np.asarray(np.hypot(self.x - ax - along * dx, self.y - ay - along * dy) - thickness)

    def _cover(self, distance: Distance) -> Array:
        return np.asarray((0.5 - distance / self._edge).clip(0, 1))


def draw_faces(species: str, streams: Sequence[Generator], height: int, width: int) -> Array:
    """float32 [N, H, W, 3] in 0 .. 1. Face n depends on stream n only."""
    dice = Dice(streams)
    canvas = Canvas(dice, height, width)
    _DRAWERS[species](canvas, dice)
    canvas.light()
    return canvas.pixels.clip(0, 1)


def _cat(canvas: Canvas, dice: Dice) -> None:
    """Pointed ears, slit pupils, whiskers, stripes or a patch."""
    fur = dice.colour([(0.08, 0.65, 0.9), (0, 0, 0.62), (0.09, 0.35, 0.95), (0.07, 0.5, 0.45), (0, 0.02, 0.96)])
    dark = fur * 0.55
    for side in (-1, 1):
        tip, inner, outer = (side * dice(0.6, 0.72), -0.86), (side * 0.12, -0.4), (side * 0.7, -0.02)
        ear: list[Corner] = [inner, tip, outer] if side > 0 else [outer, tip, inner]
        canvas.fill(canvas.triangle(*ear), fur)
        canvas.fill(canvas.triangle(*_shrunk(ear, 0.55)), _PINK)
    head = canvas.ellipse(0, 0.1, 0.74, dice(0.6, 0.68))
    canvas.fill(head, fur)
    marking = dice.which(3)
    striped, patched = marking == 0, marking == 1
    for place in (-0.2, 0.0, 0.2):
        canvas.fill(canvas.stroke(place, -0.5, place * 0.7, -0.2, 0.05), dark, head, striped)
    canvas.fill(canvas.ellipse(0.34 * dice.side(), -0.12, 0.34, 0.36), dark, head, patched)
    _muzzle(canvas, fur + (1 - fur) * 0.6, 0.36, 0.24, 0.42)
    iris = dice.colour([(0.33, 0.7, 0.8), (0.14, 0.85, 0.95), (0.55, 0.6, 0.95)])
    pupil = dice(0.05, 0.09)
    for side in (-1, 1):
        for row in (0.12, 0.3):
            canvas.fill(canvas.stroke(side * 0.8, row - 0.05, side * 0.55, row, 0.045), dark, head, striped)
        canvas.fill(canvas.ellipse(side * 0.31, 0.02, 0.17, 0.16), iris)
        canvas.fill(canvas.ellipse(side * 0.31, 0.02, pupil, 0.15), _BLACK)
        canvas.fill(canvas.ellipse(side * 0.31 + 0.05, -0.05, 0.045, 0.045), _WHITE)
        for rise in (-0.16, 0.03):
            canvas.fill(canvas.stroke(side * 0.22, 0.42, side * 0.85, 0.42 + rise, 0.012), _WHITE)
    canvas.fill(canvas.triangle((-0.1, 0.26), (0.1, 0.26), (0.0, 0.38)), _ROSE)
    _mouth(canvas, 0.38, 0.13)


def _dog(canvas: Canvas, dice: Dice) -> None:
    """Hanging ears, round dark eyes, a long muzzle; often a blaze, an eye patch or a tongue."""
    fur = dice.colour([(0.08, 0.6, 0.62), (0.09, 0.4, 0.88), (0.06, 0.6, 0.38), (0, 0, 0.95), (0, 0.02, 0.3)])
    ear = dice.colour([(0.06, 0.65, 0.35), (0.07, 0.6, 0.5), (0, 0, 0.2)])
    pale = fur + (1 - fur) * 0.7
    head = canvas.ellipse(0, 0.02, 0.6, dice(0.68, 0.76))
    canvas.fill(head, fur)
    canvas.fill(canvas.ellipse(0.28 * dice.side(), -0.12, 0.26, 0.3), ear, head, dice.chance(0.5))
    canvas.fill(canvas.ellipse(0, -0.5, 0.13, 0.5), pale, head, dice.chance(0.5))
    droop = dice(0.05, 0.25)
    for side in (-1, 1):
        canvas.fill(canvas.ellipse(side * 0.66, -0.12 + droop, 0.22, 0.5, side * -0.2), ear)
    canvas.fill(canvas.ellipse(0, 0.72, 0.13, 0.2), _TONGUE, where=dice.chance(0.6))
    _muzzle(canvas, pale, 0.4, 0.34, 0.42)
    for side in (-1, 1):
        canvas.fill(canvas.ellipse(side * 0.27, -0.12, 0.14, 0.15), _WHITE)
        canvas.fill(canvas.ellipse(side * 0.27, -0.1, 0.115, 0.125), _BROWN)
        canvas.fill(canvas.ellipse(side * 0.27 + 0.04, -0.15, 0.04, 0.04), _WHITE)
    canvas.fill(canvas.ellipse(0, 0.24, 0.19, 0.13), _BLACK)
    canvas.fill(canvas.ellipse(-0.05, 0.2, 0.05, 0.03), _GRAY)
    _mouth(canvas, 0.37, 0.16)


def _wild(canvas: Canvas, dice: Dice) -> None:
    """Round ears and a broad muzzle: a lion with a mane, a tiger with stripes, or a leopard with spots."""
    kind = dice.which(3)
    lion, tiger, leopard = kind == 0, kind == 1, kind == 2
    fur = _rgb(dice(0.07, 0.12), dice(0.6, 0.85), dice(0.8, 0.98))
    ragged = 0.045 * np.sin(13 * np.arctan2(canvas.y - 0.08, canvas.x) + dice(0, 6))
    mane = _rgb(dice(0.04, 0.07), dice(0.7, 0.8), dice(0.4, 0.6))
    canvas.fill(canvas.ellipse(0, 0.08, 0.94, 0.92) + ragged, mane, where=lion)
    for side in (-1, 1):
        canvas.fill(canvas.ellipse(side * 0.5, -0.42, 0.22, 0.22), fur)
        canvas.fill(canvas.ellipse(side * 0.5, -0.4, 0.12, 0.12), _BROWN)
    radius = np.where(lion, np.float32(0.59), np.float32(0.64))
    head = canvas.ellipse(0, 0.1, radius, radius)
    canvas.fill(head, fur)
    canvas.fill(canvas.stroke(0, -0.55, 0, -0.25, 0.045), _BROWN, head, tiger)
    for side in (-1, 1):
        canvas.fill(canvas.stroke(side * 0.2, -0.52, side * 0.13, -0.28, 0.045), _BROWN, head, tiger)
        for row in (0.0, 0.2, 0.4):
            canvas.fill(canvas.stroke(side * 0.72, row - 0.08, side * 0.46, row, 0.05), _BROWN, head, tiger)
    for sector in range(16):
        # One spot in each sixteenth of the circle, so that the spots are spread evenly.
        turn, far = (sector + dice(0, 1)) * np.pi / 8, dice(0.36, 0.62)
        spot = canvas.ellipse(far * np.cos(turn), 0.05 + far * np.sin(turn), 0.055, 0.055)
        canvas.fill(spot, _BROWN, head, leopard)
    _muzzle(canvas, fur + (1 - fur) * 0.75, 0.42, 0.27, 0.44)
    iris = dice.colour([(0.13, 0.9, 0.95), (0.2, 0.7, 0.85)])
    for side in (-1, 1):
        canvas.fill(canvas.ellipse(side * 0.26, 0.0, 0.15, 0.12, side * 0.3), _BROWN)
        canvas.fill(canvas.ellipse(side * 0.26, 0.0, 0.12, 0.09, side * 0.3), iris)
        canvas.fill(canvas.ellipse(side * 0.26, 0.0, 0.055, 0.055), _BLACK)
    canvas.fill(canvas.triangle((-0.17, 0.22), (0.17, 0.22), (0.0, 0.38)), _BROWN)
    _mouth(canvas, 0.38, 0.17)


_DRAWERS: dict[str, Callable[[Canvas, Dice], None]] = {"cat": _cat, "dog": _dog, "wild": _wild}
_BLACK = np.array([0.06, 0.05, 0.06], dtype=np.float32)
_WHITE = np.array([0.99, 0.99, 0.99], dtype=np.float32)
_GRAY = np.array([0.55, 0.55, 0.58], dtype=np.float32)
_BROWN = np.array([0.2, 0.11, 0.05], dtype=np.float32)
_PINK = np.array([0.95, 0.62, 0.65], dtype=np.float32)
_ROSE = np.array([0.9, 0.45, 0.5], dtype=np.float32)
_TONGUE = np.array([0.93, 0.42, 0.48], dtype=np.float32)


def _shrunk(corners: Sequence[Corner], factor: float) -> list[Corner]:
    """The same shape, scaled about its centre."""
    x, y = sum(x for x, _ in corners) / len(corners), sum(y for _, y in corners) / len(corners)
    return [(x + factor * (ax - x), y + factor * (ay - y)) for ax, ay in corners]


def _muzzle(canvas: Canvas, colour: Colour, rx: float, ry: float, y: float) -> None:
    """Two cheeks side by side."""
    left, right = (canvas.ellipse(side * rx * 0.4, y, rx * 0.68, ry) for side in (-1, 1))
    canvas.fill(np.minimum(left, right), colour)


def _mouth(canvas: Canvas, top: float, wide: float) -> None:
    """A line down from the nose, and a smile on each side."""
    canvas.fill(canvas.stroke(0, top, 0, top + 0.12, 0.02), _BLACK)
    for side in (-1, 1):
        canvas.fill(canvas.stroke(0, top + 0.12, side * 0.6 * wide, top + 0.15, 0.022), _BLACK)
        canvas.fill(canvas.stroke(side * 0.6 * wide, top + 0.15, side * wide, top + 0.08, 0.022), _BLACK)


def _rgb(hue: Array, saturation: Array, value: Array) -> Colour:
    """Hue, saturation and value [N, 1, 1] to RGB [N, 1, 1, 3], by the piecewise-linear formula of HSV."""
    saturation, value = saturation.clip(0, 1), value.clip(0, 1)
    k = (np.array([5, 3, 1], dtype=np.float32) + 6 * hue[..., None]) % 6
    rise = np.minimum(np.minimum(k, 4 - k), 1).clip(0, 1)
    return np.asarray(value[..., None] * (1 - saturation[..., None] * rise), dtype=np.float32)
