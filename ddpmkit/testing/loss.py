"""What a loss must do."""

from typing import get_args

import torch
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield "shape", "does it give one number an image?", "Average over channels and pixels, not over the batch.", _shape
    yield "perfect", "is it 0 at a perfect prediction?", "It must measure a difference, and nothing else.", _perfect
    yield "grows", "is a worse prediction worse?", "It must grow with the size of the error.", _grows
    yield "independent", "does each image count alone?", "No statistics over the batch.", _independent


def _example() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 4, 3, 8, 8, generator=draw)
    return prediction, target, torch.tensor([0.99, 0.7, 0.3, 0.01])


def _shape(subject: Subject) -> None:
    for prediction in get_args(Prediction):
        loss = subject.build(prediction=prediction)(*_example())
        require(loss.shape == (4,) and bool(loss.isfinite().all()), f"{loss} for {prediction}")


def _perfect(subject: Subject) -> None:
    for prediction in get_args(Prediction):
        _, target, alpha_bar = _example()
        loss = subject.build(prediction=prediction)(target, target, alpha_bar)
        require(bool((loss.abs() < 1e-6).all()), f"{loss} for {prediction}")


def _grows(subject: Subject) -> None:
    prediction, target, alpha_bar = _example()
    ask = subject.build(prediction="epsilon")
    near, far = (ask(target + share * (prediction - target), target, alpha_bar) for share in (0.1, 1.0))
    require(bool((near < far).all()), f"{near} near, {far} far")


def _independent(subject: Subject) -> None:
    example = _example()
    ask = subject.build(prediction="epsilon")
    alone = torch.cat([ask(*(part[i : i + 1] for part in example)) for i in range(4)])
    require(torch.allclose(ask(*example), alone), f"{ask(*example)} together, {alone} alone")
