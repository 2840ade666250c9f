"""The loss on a fixed subset of the validation images, at fixed noise and timesteps, so that runs can be compared."""

import torch
from torch import nn

from ddpmkit.data.images import ImageSource, evenly_spread, to_float
from ddpmkit.randomness import Purpose, integers, normal
from ddpmkit.training.objective import NoisedBatch, Objective

__all__ = ["VALIDATION_IMAGES", "validation_loss"]

VALIDATION_IMAGES = 512
"""At most this many validation images are used, evenly spaced in the list."""

# Not the seed of the run: runs with different seeds must be validated at the same noise.
_SEED = 0


@torch.inference_mode()
def validation_loss(
    network: nn.Module, objective: Objective, images: ImageSource, batch_size: int = 64
) -> float | None:
    """Return the mean loss over the subset; None if there are no validation images.

    The noise and the timestep of an image depend only on its position in the subset, not on the run.
    """
    device = objective.runtime.device
    chosen = evenly_spread(len(images), VALIDATION_IMAGES)
    found = []
    for start in range(0, len(chosen), batch_size):
        indices = chosen[start : start + batch_size]
        positions = torch.arange(start, start + len(indices), device=device)
        batch = NoisedBatch(
            to_float(images.center_crops(indices)).to(device),
            integers(_SEED, Purpose.VALIDATION, 0, positions, objective.process.timesteps),
            normal(_SEED, Purpose.VALIDATION, 1, positions, images.image_shape),
            images.labels(indices).to(device) if objective.num_classes else None,
            # As in sampling, where all calls except the first have an estimate.
            self_condition=objective.process.self_conditioning,
        )
        found.append(objective.losses(network, batch))
    # The host waits for the device here, once.
    total = sum(float(losses.cpu().sum(dtype=torch.float64)) for losses in found)
    return total / len(chosen) if len(chosen) else None
