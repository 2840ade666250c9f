"""What a schedule must do."""

import torch

from ddpmkit.diffusion import coefficients
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_TIMESTEPS = (50, 1000)
_UNUSUAL = (1, 2, 3, 10, 4000)


def use(subject: Subject) -> Results:
    """Ask for alpha_bar."""
    return {"alpha_bar": _alpha_bar(subject, 50)}


def _asked(subject: Subject) -> tuple[int, ...]:
    """The T at which every check asks."""
    return tuple(dict.fromkeys((*_TIMESTEPS, *subject.timesteps)))


def _alpha_bar(subject: Subject, timesteps: int) -> torch.Tensor:
    alpha_bar: torch.Tensor = subject.build(timesteps=timesteps).alphas_cumprod()
    return alpha_bar


def _float64(subject: Subject) -> None:
    for timesteps in _asked(subject):
        dtype = _alpha_bar(subject, timesteps).dtype
        require(dtype == torch.float64, f"{dtype} at T = {timesteps}")


def _any_timesteps(subject: Subject) -> None:
    for timesteps in (*_UNUSUAL, *_asked(subject)):
        alpha_bar = _alpha_bar(subject, timesteps)
        good = alpha_bar.shape == (timesteps,) and bool(alpha_bar.isfinite().all())
        infinite = int((~alpha_bar.isfinite()).sum())
        require(good, f"{list(alpha_bar.shape)}, {infinite} of them not finite, at T = {timesteps}")


def _range(subject: Subject) -> None:
    for timesteps in _asked(subject):
        alpha_bar = _alpha_bar(subject, timesteps)
        inside = bool((alpha_bar[:-1] > 0).all()) and bool((alpha_bar >= 0).all()) and bool((alpha_bar < 1).all())
        require(inside, f"from {alpha_bar.min():.6g} to {alpha_bar.max():.6g} at T = {timesteps}")


def _decreasing(subject: Subject) -> None:
    for timesteps in _asked(subject):
        alpha_bar = _alpha_bar(subject, timesteps)
        wrong = (alpha_bar.diff() >= 0).nonzero().flatten().tolist()
        where = f"from {alpha_bar[wrong[0]]:.6g} to {alpha_bar[wrong[0] + 1]:.6g} at t = {wrong[0]}" if wrong else ""
        require(not wrong, f"{len(wrong)} of {timesteps - 1} steps do not fall at T = {timesteps}; the first: {where}")


def _snr(subject: Subject) -> None:
    for timesteps in _asked(subject):
        alpha_bar = _alpha_bar(subject, timesteps)
        # Float32, as the core keeps it. Steps that do not even fall in float64 are another check's.
        same = (coefficients(alpha_bar)["log_snr"].float().diff() >= 0) & (alpha_bar.diff() < 0)
        wrong = same.nonzero().flatten().tolist()
        where = f"t = {wrong[0]}, where alpha_bar = {alpha_bar[wrong[0]]:.9g}" if wrong else ""
        require(
            not wrong, f"{len(wrong)} steps at T = {timesteps} cost nothing that float32 can tell; the first: {where}"
        )


RULES = (
    Rule(
        "schedule.float64",
        "is alpha_bar float64?",
        "Give dtype=torch.float64 to the first tensor of the computation, `torch.arange` or `torch.linspace`: "
        "converting at the end keeps the errors of float32, and near t = 0 they are as large as 1 - alpha_bar.",
        _float64,
    ),
    Rule(
        "schedule.any-timesteps",
        "is there one finite value a timestep, for any T from 1 up?",
        "alpha_bar has T values, at t = 0 .. T-1; the clean image, where alpha_bar is 1, is not among them. At T = 1 "
        "look for a division by T - 1, and for a table of fixed length.",
        _any_timesteps,
    ),
    Rule(
        "schedule.range",
        "does alpha_bar lie between 0 and 1, and reach 0 at the last step only?",
        "t = 0 is noised a little already, so alpha_bar starts below 1: use (t + 1)/T for t/T. To stay above 0, clip "
        "the betas below 1 (Nichol & Dhariwal 2021: at 0.999).",
        _range,
    ),
    Rule(
        "schedule.decreasing",
        "does every step add noise?",
        "alpha_bar must fall strictly from each t to the next. Look for a sign, for an order turned round (index 0 is "
        "the cleanest), and for a clamp of alpha_bar itself, which leaves a flat end.",
        _decreasing,
    ),
    Rule(
        "schedule.snr",
        "does every step lower the signal-to-noise ratio by an amount that float32 can tell?",
        "The core keeps log(alpha_bar / (1 - alpha_bar)) in float32, and a sampler divides by its differences. Spread "
        "the steps over a wider range of noise, or begin with more of it.",
        _snr,
    ),
)
