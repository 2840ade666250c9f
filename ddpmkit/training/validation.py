"""The loss on a fixed subset of the held-out images, at fixed noise and timesteps: comparable between runs."""

import torch
from torch import nn

from ddpmkit.data.images import ImageSource, evenly_spread, to_float
from ddpmkit.randomness import Purpose, normal, uniform_integers
from ddpmkit.training.objective import NoisedBatch, Objective

__all__ = ["VALIDATION_IMAGES", "validation_loss"]

VALIDATION_IMAGES = 512
"""At most this many held-out images are used, evenly spread over the list."""

# Not the seed of the run: runs with different seeds must be validated at the same noise.
_SEED = 0


@torch.inference_mode()
def validation_loss(
    network: nn.Module, objective: Objective, images: ImageSource, batch_size: int = 64
) -> float | None:
    """Mean loss over the subset; None if there are no held-out images.

    Noise and timestep are functions of the position in the subset, not of the run.
    """
    device = objective.runtime.device
    chosen = evenly_spread(len(images), VALIDATION_IMAGES)
    total = 0.0
    for start in range(0, len(chosen), batch_size):
        indices = chosen[start : start + batch_size]
        positions = range(start, start + len(indices))
        batch = NoisedBatch(
            to_float(images.center_crops(indices)).to(device),
            uniform_integers(_SEED, Purpose.VALIDATION, 0, positions, objective.process.timesteps).to(device),
            normal(_SEED, Purpose.VALIDATION, 1, positions, images.image_shape).to(device),
            images.labels(indices).to(device) if objective.num_classes else None,
            # As in sampling, where all calls but the first have an estimate.
            with_estimate=objective.process.self_conditioning,
        )
        total += float(objective.losses(network, batch).sum(dtype=torch.float64))
    return total / len(chosen) if len(chosen) else None
