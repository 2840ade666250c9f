"""Muon: steps along the momentum of a weight matrix with all its singular values made equal.

Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon). It does not know which network the weights belong to.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Muon", "is_matrix", "orthogonalized"]

_MOMENTUM = 0.95
_NARROWEST = 8


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight maps features to features: neither a bias nor a scale, and not the first or the last layer's."""
    return weight.ndim >= 2 and min(weight.shape[:2]) >= _NARROWEST


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T of [rows, columns]: all directions count alike.

    By a Newton-Schulz iteration of fifth order, whose coefficients bring singular values to 0.7 .. 1.2 in a few rounds.
    Each round multiplies from the left by a polynomial of x x^T, so rounds are multiplied up in that small matrix, and
    the large one is touched twice.
    """
    x: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    together = once = _polynomial(gram)
    for _ in range(iterations - 1):
        gram = once @ gram @ once
        once = _polynomial(gram)
        together = once @ together
    x = together @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def _polynomial(gram: Tensor) -> Tensor:
    """3.4445 - 4.7750 g + 2.0315 g^2, the coefficients of Jordan et al."""
    out = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
    out.diagonal().add_(3.4445)
    return out


class Muon(torch.optim.Optimizer):
    """A step has the root mean square of a typical step of Adam, 0.2 of the learning rate, so that one rate suits both.

    That scale is from Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2
    (https://arxiv.org/abs/2502.16982).
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        """`matrices`: weights that `is_matrix` accepts."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nothing here evaluates a loss anew
        """Take one step by the gradients that are there."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(self._direction(weight), alpha=-group["lr"])

    def _direction(self, weight: Tensor) -> Tensor:
        gradient = weight.grad
        assert gradient is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        # Nesterov's momentum, one row an output; channels_last keeps the numbers of a row together in this order.
        rows = gradient.lerp(state["momentum"], _MOMENTUM).movedim(1, -1)
        matrix = orthogonalized(rows.flatten(1).float())
        scaled: Tensor = 0.2 * max(matrix.shape) ** 0.5 * matrix
        return scaled.view(rows.shape).movedim(-1, 1).to(weight.dtype)
