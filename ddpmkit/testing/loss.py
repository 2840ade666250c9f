"""The checks of a loss."""

from typing import get_args

import torch
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
_ALPHA_BAR = (0.99, 0.7, 0.3, 0.01)


def use(subject: Subject) -> Results:
    """Compute the losses of a batch for each prediction type."""
    return {prediction: subject.build(prediction=prediction)(*_example()) for prediction in _PREDICTIONS}


def _example() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 4, 3, 8, 8, generator=generator)
    return prediction, target, torch.tensor(_ALPHA_BAR)


def _shown(losses: Tensor) -> str:
    """Each loss with its alpha_bar."""
    pairs = zip(losses.flatten().tolist(), _ALPHA_BAR, strict=False)
    return ", ".join(f"{loss:.4g} at alpha_bar = {bar}" for loss, bar in pairs)


def _per_sample(subject: Subject) -> None:
    for prediction in _PREDICTIONS:
        losses = subject.build(prediction=prediction)(*_example())
        require(
            losses.shape == (4,), f"shape {list(losses.shape)} instead of [4] for a batch of 4, prediction {prediction}"
        )


def _perfect(subject: Subject) -> None:
    for prediction in _PREDICTIONS:
        _, target, alpha_bar = _example()
        losses = subject.build(prediction=prediction)(target, target, alpha_bar)
        require(bool((losses.abs() < 1e-6).all()), f"{_shown(losses)}, prediction {prediction}")


def _positive(subject: Subject) -> None:
    for prediction in _PREDICTIONS:
        losses = subject.build(prediction=prediction)(*_example())
        require(bool((losses > 0).all()), f"{_shown(losses)}, prediction {prediction}")


def _grows(subject: Subject) -> None:
    prediction, target, alpha_bar = _example()
    loss = subject.build(prediction="epsilon")
    near, far = (loss(target + share * (prediction - target), target, alpha_bar) for share in (0.1, 1.0))
    # Losses that are not positive belong to another check.
    require(bool(((near < far) | (far <= 0)).all()), f"{_shown(near)}; with ten times the error {_shown(far)}")


def _independent(subject: Subject) -> None:
    example = _example()
    loss = subject.build(prediction="epsilon")
    together = loss(*example)
    if together.shape != (4,):
        return  # belongs to another check
    alone = torch.cat([loss(*(part[i : i + 1] for part in example)) for i in range(4)])
    require(
        torch.allclose(together, alone, rtol=1e-4), f"in one batch: {_shown(together)}; one by one: {_shown(alone)}"
    )


def _finite(subject: Subject) -> None:
    levels = {prediction: [1 - 1e-6, 1e-3, 1e-8] for prediction in _PREDICTIONS}
    for prediction in ("x0", "v"):
        levels[prediction].append(0.0)  # diffusion.zero_terminal_snr
    for prediction, bars in levels.items():
        loss = subject.build(prediction=prediction)
        for bar in bars:
            losses = loss(*_example()[:2], torch.full((4,), bar))
            require(bool(losses.isfinite().all()), f"{losses.tolist()} at alpha_bar = {bar}, prediction {prediction}")
        # In a run alpha_bar is float64. This value is 1 in float32; the schedule edm begins there.
        losses = loss(*_example()[:2], torch.full((4,), 1 - 1e-10, dtype=torch.float64))
        require(
            bool(losses.isfinite().all()),
            f"{losses.tolist()} at alpha_bar = 1 - 1e-10, float64, prediction {prediction}",
        )


def _gradient(subject: Subject) -> None:
    guess, target, alpha_bar = _example()
    for prediction in _PREDICTIONS:
        for name, start in (("a wrong", guess), ("a perfect", target)):
            x = start.clone().requires_grad_()
            losses = subject.build(prediction=prediction)(x, target, alpha_bar)
            require(losses.requires_grad, f"the loss has no gradient, prediction {prediction}")
            (gradient,) = torch.autograd.grad(losses.sum(), x)
            not_finite = int((~gradient.isfinite()).sum())
            where = f"at {name} prediction of {prediction}"
            require(not_finite == 0, f"{not_finite} of {gradient.numel()} values are NaN or infinity {where}")
            require(start is target or bool(gradient.any()), f"the gradient is 0 {where}")


def _input_kept(subject: Subject) -> None:
    example = _example()
    subject.build(prediction="epsilon")(*example)
    changed = zip(("prediction", "target", "alpha_bar"), example, _example(), strict=True)
    names = [name for name, after, before in changed if not torch.equal(after, before)]
    require(not names, f"it changed {', '.join(names)}")


def _with_bound(subject: Subject) -> None:
    subject.require_provided("learned-variance")
    losses = torch.tensor([0.5, 0.1, 0.2])
    with_bound = subject.build(prediction="epsilon").with_bound
    low, high, mixed = (with_bound(losses, torch.tensor(bound)) for bound in ([1.0] * 3, [2.0] * 3, [1.0, 2.0, 1.0]))
    require(mixed.shape == (3,), f"shape {list(mixed.shape)} instead of [3] for a batch of 3")
    require(bool((low < high).all()), f"{low.tolist()} at a bound of 1 bit, {high.tolist()} at 2 bits")
    found = f"bounds 1, 2, 1 give {mixed.tolist()}; bounds 1, 1, 1 {low.tolist()}; bounds 2, 2, 2 {high.tolist()}"
    require(torch.allclose(mixed, torch.stack([low[0], high[1], low[2]])), found)


RULES = (
    Rule(
        "loss.per-sample",
        "returns one loss per image, [B]",
        "Average over channels and pixels, and not over the batch: `.flatten(1).mean(dim=1)`. The core averages over "
        "the batch, and reports the loss by timestep.",
        _per_sample,
    ),
    Rule(
        "loss.zero-at-perfect",
        "the loss of a perfect prediction is 0",
        "It must measure the difference between prediction and target only: look for a constant, and for a penalty "
        "on the prediction alone.",
        _perfect,
    ),
    Rule(
        "loss.positive",
        "the loss of a wrong prediction is positive at every noise level",
        "Errors must not cancel: take the absolute value or the square before the mean. No timestep may have a "
        "weight of 0 or less.",
        _positive,
    ),
    Rule(
        "loss.grows",
        "a larger error gives a larger loss at every noise level",
        "The loss must grow with the size of the error. A constant loss has no gradient.",
        _grows,
    ),
    Rule(
        "loss.independent",
        "the loss of an image does not depend on the other images of the batch",
        "Compute nothing over dimension 0: no mean, maximum or normalization over the batch, and no weight that "
        "depends on the other timesteps.",
        _independent,
    ),
    Rule(
        "loss.finite",
        "the loss is finite at every noise level, including alpha_bar = 0 for prediction x0 and v",
        "A weight by SNR divides by alpha_bar or by 1 - alpha_bar: write it as a product, or clamp the divisor. Keep "
        "alpha_bar in float64 until after the subtraction from 1.",
        _finite,
    ),
    Rule(
        "loss.gradient",
        "the gradient with respect to the prediction is finite, and is 0 only for a perfect prediction",
        "Look for `detach`, `no_grad` and rounding. A square root has an infinite slope at 0: add a constant inside "
        "it.",
        _gradient,
    ),
    Rule(
        "loss.input-kept",
        "the inputs are not modified",
        "Look for in-place operations such as `-=` and `mul_` on prediction, target or alpha_bar.",
        _input_kept,
    ),
    Rule(
        "loss.with-bound",
        "`with_bound` combines each loss with its own bound (only if the loss provides `learned-variance`)",
        "Return losses [B] that grow with bound [B], image by image; or remove `learned-variance` from `provides`.",
        _with_bound,
    ),
)
