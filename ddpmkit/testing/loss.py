"""What a loss must do."""

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
    """Judge a batch, of each parameterisation."""
    return {prediction: subject.build(prediction=prediction)(*_example()) for prediction in _PREDICTIONS}


def _example() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 4, 3, 8, 8, generator=draw)
    return prediction, target, torch.tensor(_ALPHA_BAR)


def _shown(losses: Tensor) -> str:
    """Loss by alpha_bar."""
    pairs = zip(losses.flatten().tolist(), _ALPHA_BAR, strict=False)
    return ", ".join(f"{loss:.4g} at alpha_bar = {bar}" for loss, bar in pairs)


def _per_sample(subject: Subject) -> None:
    for prediction in _PREDICTIONS:
        losses = subject.build(prediction=prediction)(*_example())
        require(losses.shape == (4,), f"{list(losses.shape)} for a batch of 4, prediction {prediction}")


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
    ask = subject.build(prediction="epsilon")
    near, far = (ask(target + share * (prediction - target), target, alpha_bar) for share in (0.1, 1.0))
    # Losses that are not positive are another check's.
    require(bool(((near < far) | (far <= 0)).all()), f"ten times the error: {_shown(far)}; before: {_shown(near)}")


def _independent(subject: Subject) -> None:
    example = _example()
    ask = subject.build(prediction="epsilon")
    together = ask(*example)
    if together.shape != (4,):
        return  # another check's
    alone = torch.cat([ask(*(part[i : i + 1] for part in example)) for i in range(4)])
    require(torch.allclose(together, alone, rtol=1e-4), f"together: {_shown(together)}; each alone: {_shown(alone)}")


def _finite(subject: Subject) -> None:
    levels = {prediction: [1 - 1e-6, 1e-3, 1e-8] for prediction in _PREDICTIONS}
    for prediction in ("x0", "v"):
        levels[prediction].append(0.0)  # diffusion.zero_terminal_snr
    for prediction, bars in levels.items():
        ask = subject.build(prediction=prediction)
        for bar in bars:
            losses = ask(*_example()[:2], torch.full((4,), bar))
            require(bool(losses.isfinite().all()), f"{losses.tolist()} at alpha_bar = {bar}, prediction {prediction}")
        # As in a run, and so near to 1 that only float64 can tell: schedule edm begins there.
        losses = ask(*_example()[:2], torch.full((4,), 1 - 1e-10, dtype=torch.float64))
        require(
            bool(losses.isfinite().all()),
            f"{losses.tolist()} at alpha_bar = 1 - 1e-10, float64, prediction {prediction}",
        )


def _gradient(subject: Subject) -> None:
    guess, target, alpha_bar = _example()
    for prediction in _PREDICTIONS:
        for name, start in (("a wrong", guess), ("a perfect", target)):
            asked = start.clone().requires_grad_()
            losses = subject.build(prediction=prediction)(asked, target, alpha_bar)
            require(losses.requires_grad, f"none reaches the prediction, prediction {prediction}")
            (gradient,) = torch.autograd.grad(losses.sum(), asked)
            infinite = int((~gradient.isfinite()).sum())
            require(
                infinite == 0,
                f"{infinite} of {gradient.numel()} numbers not finite at {name} prediction of {prediction}",
            )
            require(start is target or bool(gradient.any()), f"0 at {name} prediction of {prediction}")


def _input_kept(subject: Subject) -> None:
    example = _example()
    subject.build(prediction="epsilon")(*example)
    changed = zip(("prediction", "target", "alpha_bar"), example, _example(), strict=True)
    names = [name for name, after, before in changed if not torch.equal(after, before)]
    require(not names, f"changed: {', '.join(names)}")


def _with_bound(subject: Subject) -> None:
    subject.require_provided("learned-variance")
    losses = torch.tensor([0.5, 0.1, 0.2])
    ask = subject.build(prediction="epsilon").with_bound
    low, high, mixed = (ask(losses, torch.tensor(bound)) for bound in ([1.0] * 3, [2.0] * 3, [1.0, 2.0, 1.0]))
    require(mixed.shape == (3,), f"{list(mixed.shape)} for a batch of 3")
    require(bool((low < high).all()), f"{low.tolist()} at a bound of 1 bit, {high.tolist()} at 2")
    seen = f"bounds 1, 2, 1 give {mixed.tolist()}; each alone {low.tolist()} and {high.tolist()}"
    require(torch.allclose(mixed, torch.stack([low[0], high[1], low[2]])), seen)


RULES = (
    Rule(
        "loss.per-sample",
        "does it give one number an image?",
        "Average over channels and pixels, and not over the batch: `.flatten(1).mean(dim=1)`. The core takes the mean "
        "of the batch, and shows the loss by timestep.",
        _per_sample,
    ),
    Rule(
        "loss.zero-at-perfect",
        "is it 0 at a perfect prediction?",
        "It must measure a difference between prediction and target, and nothing else: look for a constant, and for a "
        "penalty on the prediction alone.",
        _perfect,
    ),
    Rule(
        "loss.positive",
        "is it above 0 at a wrong prediction, at every noise level?",
        "Errors must not cancel (take their size before the mean), and no timestep may have a weight of 0 or below.",
        _positive,
    ),
    Rule(
        "loss.grows",
        "is a worse prediction worse?",
        "It must grow with the size of the error at every noise level; a loss that is flat teaches nothing.",
        _grows,
    ),
    Rule(
        "loss.independent",
        "does each image count as if it were alone?",
        "Compute nothing over dimension 0: no mean, maximum or normalisation of the batch, and no weight that depends "
        "on the other timesteps in it.",
        _independent,
    ),
    Rule(
        "loss.finite",
        "is it finite at every noise level, alpha_bar = 0 included (with prediction x0 and v)?",
        "A weight by SNR divides by alpha_bar or by 1 - alpha_bar: write it as a product, or clamp what is divided by. "
        "Leave alpha_bar in float64 until nothing is subtracted from 1 any more.",
        _finite,
    ),
    Rule(
        "loss.gradient",
        "does a finite gradient reach the prediction, a perfect one too?",
        "Look for `detach`, `no_grad` and rounding. A square root has an infinite slope at 0: add a constant below it.",
        _gradient,
    ),
    Rule(
        "loss.input-kept",
        "does it leave its input as it was?",
        "Look for `-=`, `mul_` and the like on prediction, target or alpha_bar.",
        _input_kept,
    ),
    Rule(
        "loss.with-bound",
        "does `with_bound` add the bound to each loss by itself, where it provides `learned-variance`?",
        "Give losses [B] that grow with bound [B], each with its own; or leave `learned-variance` out of `provides`.",
        _with_bound,
    ),
)
