"""Post-hoc EMA: an average of any width as a mixture of stored power-function averages.

Karras et al. (2024), "Analyzing and Improving the Training Dynamics of Diffusion Models", sections 3.1 and 3.2 and
appendix C (https://arxiv.org/abs/2312.02696).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mixture", "WeightProfile", "exponent", "mixture"]


def exponent(sigma_rel: float) -> float:
    """Return gamma of the profile whose standard deviation is `sigma_rel` of its length: 16.97 for 0.05, 6.94 for 0.1.

    sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2), squared, is a cubic equation, and gamma is its
    largest root.
    """
    inverse = sigma_rel**-2
    return float(max(np.roots([1, 7, 16 - inverse, 12 - inverse]).real))


class WeightProfile(NamedTuple):
    """The weight of each moment tau of training: p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) up to t, 0 after."""

    step: int
    """t, the optimizer step after which the average was taken."""
    sigma_rel: float


class Mixture(NamedTuple):
    """Coefficients, one for each profile and summing to 1, and the error of the mixture."""

    coefficients: NDArray[np.float64]
    error: float
    """Norm of the difference from the target profile, relative to the norm of the target: 0 is exact."""


def mixture(stored: Sequence[WeightProfile], target: WeightProfile) -> Mixture:
    """Return the mixture of one or more stored profiles that is nearest to the target: least squares, section 3.2.

    Unlike in the paper, the coefficients are constrained to sum to 1: with few snapshots, free coefficients would scale
    the weights.
    """
    t = np.array([profile.step / target.step for profile in [*stored, target]])
    gamma = np.array([exponent(profile.sigma_rel) for profile in [*stored, target]])
    products = _inner_products(t, gamma)
    scale = np.sqrt(np.diag(products)[:-1])  # unit diagonal: profiles of early steps are narrow and tall
    gram, right = products[:-1, :-1] / np.outer(scale, scale), products[:-1, -1] / scale
    # Lagrange's conditions: [G 1; 1^T 0] [x; multiplier] = [b; 1]. The ones are divided by `scale`, as the
    # columns of G are.
    system = np.block([[gram, (1 / scale)[:, None]], [1 / scale, np.zeros(1)]])
    solution = np.linalg.lstsq(system, np.append(right, 1.0), rcond=1e-14)[0][:-1]
    squared = products[-1, -1] - 2 * solution @ right + solution @ gram @ solution
    return Mixture(solution / scale, float(np.sqrt(max(0.0, squared) / products[-1, -1])))


def _inner_products(t: NDArray[np.float64], gamma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the integrals of p_i p_j over all of training, [N, N]: appendix C.3.

    (gamma_i + 1) (gamma_j + 1) / (gamma_i + gamma_j + 1) t_i^gamma_j / t_j^(gamma_j + 1) if t_i is the earlier.
    """
    earlier, later = np.minimum.outer(t, t), np.maximum.outer(t, t)
    of_later = np.where(t[:, None] > t[None, :], gamma[:, None], gamma[None, :])
    of_later = np.where(t[:, None] == t[None, :], 0.0, of_later)  # t_i / t_j is 1 then, at any power
    heights = np.multiply.outer(gamma + 1, gamma + 1) / (np.add.outer(gamma, gamma) + 1)
    products: NDArray[np.float64] = heights / later * (earlier / later) ** of_later
    return products
