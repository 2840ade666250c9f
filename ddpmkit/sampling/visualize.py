"""Images of the forward and the reverse process at five moments: at 0, 25, 50 and 75 %, and at the end.

The end is the last frame: noise for the forward process, the finished image for the reverse process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpmkit.contracts import Picture
from ddpmkit.data.images import ImageSource, evenly_spread, to_float, to_uint8
from ddpmkit.display import ProgressDisplay
from ddpmkit.randomness import Purpose, normal
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.image_grid import grid, is_made_by, save_png, strip

__all__ = ["MOMENTS", "forward_frames", "is_visualized", "reverse_frames", "visualize"]

MOMENTS = (0, 25, 50, 75, 99)
"""Percent of the process; 99 is the last frame, labelled "end"."""

_FORWARD, _BACKWARD = "forward", "backward"

Frame = tuple[int, Tensor]
"""t, the number of noising steps (0 is clean, T is noise), and the images, uint8 [N, C, H, W]."""


def visualize(
    generator: ImageGenerator,
    images: ImageSource,
    folder: RunFolder,
    step: int,
    seed: int,
    display: ProgressDisplay,
    made_by: Mapping[str, Any],
) -> Iterator[Picture]:
    """Write `viz/forward_t*.png`, `viz/backward_t*.png` and one strip of each; yield the two strips.

    `made_by`: what the strips depend on, as JSON data, for `is_visualized`.
    """
    count = min(8, generator.images_per_batch)
    with display.progress("sampling steps of the reverse process", generator.sampling_steps(count)) as advance:
        forward = forward_frames(generator, images, min(count, len(images)), seed)
        reverse = reverse_frames(generator, count, seed, advance)
    yield Picture(step, "forward", _write(folder, _FORWARD, forward, made_by))
    yield Picture(step, "reverse", _write(folder, _BACKWARD, reverse, made_by))


def is_visualized(folder: RunFolder, made_by: Mapping[str, Any]) -> bool:
    """Return whether `visualize` has written everything with this `made_by`. A strip is written last."""
    return all(is_made_by(folder.visualization(name), made_by) for name in (_FORWARD, _BACKWARD))


def forward_frames(generator: ImageGenerator, images: ImageSource, count: int, seed: int) -> list[Frame]:
    """Return x_t of `count` training images, evenly spread over the dataset, with fixed noise, from t = 0 to T."""
    process = generator.process
    clean = images.center_crops(evenly_spread(len(images), count))
    device = process.alpha_bar.device
    noise = normal(seed, Purpose.SAMPLE, 0, torch.arange(len(clean), device=device), images.image_shape)
    frames = []
    for percent in MOMENTS:
        t = _at(percent, process.timesteps)
        if t == 0:
            frames.append((0, clean))
            continue
        # A frame's t is a number of noising steps; timesteps are counted from 0.
        times = torch.full((len(clean),), t - 1, device=device)
        noised = process.q_sample(to_float(clean).to(device), times, noise)
        frames.append((t, to_uint8(noised)))
    return frames


def reverse_frames(generator: ImageGenerator, count: int, seed: int, advance: Callable[[int], None]) -> list[Frame]:
    """Return x_t of the first `count` images of `seed`, from pure noise to the sample.

    `advance` is called with 1 after each sampling step.
    """
    frames = []
    for number, frame in enumerate(generator.frames(range(count), seed)):
        frames.append((frame.t, to_uint8(frame.x)))
        if number:  # the first frame is the noise itself
            advance(1)
    return [frames[_at(percent, len(frames) - 1)] for percent in MOMENTS]


def _at(percent: int, last: int) -> int:
    return last if percent == MOMENTS[-1] else percent * last // 100


def _write(folder: RunFolder, name: str, frames: Sequence[Frame], made_by: Mapping[str, Any]) -> Path:
    for t, images in frames:
        save_png(grid(images), folder.visualization(f"{name}_t{t:04d}"))
    moments = [f"{percent} %" for percent in MOMENTS[:-1]] + ["end"]
    captions = [f"{moment}  (t = {t})" for moment, (t, _) in zip(moments, frames, strict=True)]
    return save_png(strip([images for _, images in frames], captions), folder.visualization(name), made_by)
