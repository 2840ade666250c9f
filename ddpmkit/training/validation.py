"""The loss on held-out images, at noise and timesteps that never change: comparable between runs.

It does not know when it is asked.
"""

import numpy as np
import torch
from torch import nn

from ddpmkit.data.images import ImageSource, to_float
from ddpmkit.randomness import Purpose, normal, uniform_integers
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective

__all__ = ["VALIDATION_IMAGES", "validation_loss"]

VALIDATION_IMAGES = 512
"""Held-out images looked at: the first so many, or all when there are fewer."""

# Not the run's own seed: two runs with unlike seeds must face the same noise.
_SEED = 0


@torch.inference_mode()
def validation_loss(
    network: nn.Module, objective: Objective, images: ImageSource, runtime: Runtime, batch_size: int = 64
) -> float | None:
    """Mean loss over the held-out images; None when there are none."""
    count = min(len(images), VALIDATION_IMAGES)
    total = 0.0
    for start in range(0, count, batch_size):
        indices = range(start, min(start + batch_size, count))
        x0 = to_float(images.plain(np.array(indices, dtype=np.int64)))
        t = uniform_integers(_SEED, Purpose.VALIDATION, 0, indices, objective.process.timesteps)
        noise = normal(_SEED, Purpose.VALIDATION, 1, indices, images.image_shape)
        label = images.labels(np.array(indices, dtype=np.int64)).to(runtime.device) if objective.num_classes else None
        x0, t, noise = (part.to(runtime.device) for part in (x0, t, noise))
        # Under self-conditioning as in sampling, where all calls but the first have an estimate.
        estimate_first = objective.process.self_conditioning
        losses = objective.losses(network, x0, t, noise, label, runtime, estimate_first=estimate_first)
        total += float(losses.sum(dtype=torch.float64))
    return total / count if count else None
