"""Computes the learning rate of a training step: linear warm-up, then constant, linear or cosine decay to 0."""

import math

from ddpmkit.recipe import TrainSection

__all__ = ["learning_rate_at"]


def learning_rate_at(step: int, settings: TrainSection) -> float:
    """Return the learning rate of optimizer step `step` (from 1): `learning_rate` * warm-up * decay.

    The warm-up is min(1, step / warmup_steps). The decay depends on r, the fraction of the steps after the warm-up that
    remain before this step: r = (steps - step + 1) / (steps - warmup_steps), limited to 0 .. 1. It is 1 for "none", r
    for "linear", and (1 - cos(pi r)) / 2 for "cosine" (Loshchilov & Hutter 2017, "SGDR", eq. 5).
    """
    warmup = min(1.0, step / max(1, settings.warmup_steps))
    remaining = min(1.0, max(0.0, (settings.steps - step + 1) / max(1, settings.steps - settings.warmup_steps)))
    decay = {"none": 1.0, "linear": remaining, "cosine": (1 - math.cos(math.pi * remaining)) / 2}
    return settings.learning_rate * warmup * decay[settings.learning_rate_decay]
