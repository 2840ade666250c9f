"""The checks of a schedule."""

import torch

from ddpmkit.diffusion import coefficients
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_TIMESTEPS = (50, 1000)
_UNUSUAL_TIMESTEPS = (1, 2, 3, 10, 4000)


def use(subject: Subject) -> Results:
    """Compute alpha_bar at T = 50."""
    return {"alpha_bar": _alpha_bar(subject, 50)}


def _all_timesteps(subject: Subject) -> tuple[int, ...]:
    """The values of T for every check."""
    return tuple(dict.fromkeys((*_TIMESTEPS, *subject.timesteps)))


def _alpha_bar(subject: Subject, timesteps: int) -> torch.Tensor:
    alpha_bar: torch.Tensor = subject.build(timesteps=timesteps).alphas_cumprod()
    return alpha_bar


def _float64(subject: Subject) -> None:
    for timesteps in _all_timesteps(subject):
        dtype = _alpha_bar(subject, timesteps).dtype
        require(dtype == torch.float64, f"{dtype} at T = {timesteps}")


def _any_timesteps(subject: Subject) -> None:
    for timesteps in (*_UNUSUAL_TIMESTEPS, *_all_timesteps(subject)):
        alpha_bar = _alpha_bar(subject, timesteps)
        not_finite = int((~alpha_bar.isfinite()).sum())
        correct = alpha_bar.shape == (timesteps,) and not not_finite
        require(correct, f"shape {list(alpha_bar.shape)}, {not_finite} values are NaN or infinity, at T = {timesteps}")


def _range(subject: Subject) -> None:
    for timesteps in _all_timesteps(subject):
        alpha_bar = _alpha_bar(subject, timesteps)
        inside = bool((alpha_bar[:-1] > 0).all()) and bool((alpha_bar >= 0).all()) and bool((alpha_bar < 1).all())
        require(inside, f"values from {alpha_bar.min():.6g} to {alpha_bar.max():.6g} at T = {timesteps}")


def _decreasing(subject: Subject) -> None:
    for timesteps in _all_timesteps(subject):
        alpha_bar = _alpha_bar(subject, timesteps)
        wrong = (alpha_bar.diff() >= 0).nonzero().flatten().tolist()
        first = f"from {alpha_bar[wrong[0]]:.6g} to {alpha_bar[wrong[0] + 1]:.6g} at t = {wrong[0]}" if wrong else ""
        require(
            not wrong,
            f"alpha_bar does not fall in {len(wrong)} of {timesteps - 1} steps at T = {timesteps}, first {first}",
        )


def _snr(subject: Subject) -> None:
    for timesteps in _all_timesteps(subject):
        alpha_bar = _alpha_bar(subject, timesteps)
        # The core stores log-SNR in float32. Steps in which alpha_bar does not fall at all belong to another check.
        equal = (coefficients(alpha_bar)["log_snr"].float().diff() >= 0) & (alpha_bar.diff() < 0)
        wrong = equal.nonzero().flatten().tolist()
        first = f"t = {wrong[0]}, with alpha_bar = {alpha_bar[wrong[0]]:.9g}" if wrong else ""
        require(
            not wrong, f"log-SNR in float32 does not fall in {len(wrong)} steps at T = {timesteps}, first at {first}"
        )


RULES = (
    Rule(
        "schedule.float64",
        "alpha_bar is float64",
        "Create the first tensor of the computation with dtype=torch.float64, for example in `torch.arange` or "
        "`torch.linspace`. A conversion at the end keeps the rounding errors of float32, which near t = 0 are "
        "large compared with 1 - alpha_bar.",
        _float64,
    ),
    Rule(
        "schedule.any-timesteps",
        "alpha_bar has T finite values, for every T of 1 or more",
        "Return T values, for t = 0 .. T-1. The clean image, with alpha_bar = 1, is not one of them. For T = 1, look "
        "for a division by T - 1, and for a table of fixed length.",
        _any_timesteps,
    ),
    Rule(
        "schedule.range",
        "0 < alpha_bar < 1 at every t; only the last value may be 0",
        "An image at t = 0 is already noised, so alpha_bar is below 1 there: use (t + 1)/T instead of t/T. To keep "
        "alpha_bar above 0, clip the betas below 1 (Nichol & Dhariwal 2021: at 0.999).",
        _range,
    ),
    Rule(
        "schedule.decreasing",
        "alpha_bar falls strictly from each t to the next: every step adds noise",
        "Look for a wrong sign, for a reversed order (index 0 is the cleanest), and for a clamp of alpha_bar itself, "
        "which makes the end flat.",
        _decreasing,
    ),
    Rule(
        "schedule.snr",
        "every step lowers the signal-to-noise ratio by an amount that float32 can represent",
        "The core stores log(alpha_bar / (1 - alpha_bar)) in float32, and samplers divide by its differences. Spread "
        "the steps over a wider range of noise, or start with more noise.",
        _snr,
    ),
)
