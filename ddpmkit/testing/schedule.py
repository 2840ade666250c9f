"""What a schedule must do."""

import torch

from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]

_TIMESTEPS = (1, 2, 50, 1000)


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield "shape", "is alpha_bar float64 [T]?", "Compute in torch.float64; one value for each of t = 0 .. T-1.", _shape
    yield (
        "range",
        "does alpha_bar lie between 0 and 1, and reach 0 at the last step only?",
        "alpha_bar at t = 0 is already noised a little; clip the betas below 1 to stay above 0.",
        _range,
    )
    yield (
        "decreasing",
        "does every step add noise?",
        "alpha_bar must fall strictly from each t to the next.",
        _decreasing,
    )
    yield "repeatable", "does it give the same numbers each time?", "A schedule draws nothing at random.", _repeatable


def _alpha_bar(subject: Subject, timesteps: int) -> torch.Tensor:
    alpha_bar: torch.Tensor = subject.build(timesteps=timesteps).alphas_cumprod()
    return alpha_bar


def _shape(subject: Subject) -> None:
    for timesteps in _TIMESTEPS:
        alpha_bar = _alpha_bar(subject, timesteps)
        seen = f"{alpha_bar.dtype} {list(alpha_bar.shape)} at T = {timesteps}"
        require(alpha_bar.dtype == torch.float64 and alpha_bar.shape == (timesteps,), seen)


def _range(subject: Subject) -> None:
    for timesteps in _TIMESTEPS:
        alpha_bar = _alpha_bar(subject, timesteps)
        inside = bool((alpha_bar[:-1] > 0).all()) and bool((alpha_bar >= 0).all()) and bool((alpha_bar < 1).all())
        require(inside, f"from {alpha_bar.min():.3g} to {alpha_bar.max():.3g} at T = {timesteps}")


def _decreasing(subject: Subject) -> None:
    for timesteps in _TIMESTEPS:
        steps = _alpha_bar(subject, timesteps).diff()
        require(bool((steps < 0).all()), f"{int((steps >= 0).sum())} steps do not fall at T = {timesteps}")


def _repeatable(subject: Subject) -> None:
    require(torch.equal(_alpha_bar(subject, 50), _alpha_bar(subject, 50)), "two builds differ")
