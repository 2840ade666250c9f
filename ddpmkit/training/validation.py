"""The loss on a fixed subset of the held-out images, at fixed noise and timesteps: comparable between runs."""

import torch
from torch import nn

from ddpmkit.data.images import ImageSource, evenly_spread, to_float
from ddpmkit.randomness import Purpose, normal, uniform_integers
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective

__all__ = ["VALIDATION_IMAGES", "validation_loss"]

VALIDATION_IMAGES = 512
"""Held-out images that are used: so many of the whole list, evenly spread, or all when there are fewer."""

# Not the run's own seed: two runs with unlike seeds must face the same noise.
_SEED = 0


@torch.inference_mode()
def validation_loss(
    network: nn.Module, objective: Objective, images: ImageSource, runtime: Runtime, batch_size: int = 64
) -> float | None:
    """Mean loss over the subset; None when there are no held-out images.

    Noise and timestep belong to the position in the subset, not to the run.
    """
    chosen = evenly_spread(len(images), VALIDATION_IMAGES)
    total = 0.0
    for start in range(0, len(chosen), batch_size):
        indices = chosen[start : start + batch_size]
        positions = range(start, start + len(indices))
        x0 = to_float(images.plain(indices))
        t = uniform_integers(_SEED, Purpose.VALIDATION, 0, positions, objective.process.timesteps)
        noise = normal(_SEED, Purpose.VALIDATION, 1, positions, images.image_shape)
        label = images.labels(indices).to(runtime.device) if objective.num_classes else None
        x0, t, noise = (part.to(runtime.device) for part in (x0, t, noise))
        # Under self-conditioning as in sampling, where all calls but the first have an estimate.
        estimate_first = objective.process.self_conditioning
        losses = objective.losses(network, x0, t, noise, label, runtime, estimate_first=estimate_first)
        total += float(losses.sum(dtype=torch.float64))
    return total / len(chosen) if len(chosen) else None
