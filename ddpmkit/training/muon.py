"""Muon: updates a weight matrix by its momentum with all singular values made equal.

Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ddpmkit.contracts import LayeredBackbone

__all__ = ["Muon", "hidden_matrices", "orthogonalized"]

_MOMENTUM = 0.95
_NARROWEST = 8
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MATRICES: dict[tuple[type[nn.Module], ...], tuple[str, ...]] = {
    (nn.Linear, *_CONVOLUTIONS): ("weight",),
    (nn.MultiheadAttention,): ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
}
"""The weights that map features to features, by the class of the module."""


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights of linear maps and convolutions inside the network, which Muon should update.

    Jordan et al. leave embeddings, biases, scales and the first and the last layer to Adam. The class of a layer
    identifies the first three. A `LayeredBackbone` returns its first and last layers. For other backbones, matrices
    with fewer than 8 rows or columns count as outer layers, because images have 1 to 6 channels.
    """
    outer = set(network.outer_layers()) if isinstance(network, LayeredBackbone) else set()
    hidden: list[nn.Parameter] = []
    others: set[nn.Parameter] = set()
    for layer in network.modules():
        names = () if layer in outer else _matrices_of(layer)
        for name, weight in layer.named_parameters(recurse=False):
            is_hidden = name in names and weight.requires_grad and min(weight.shape[:2]) >= _NARROWEST
            hidden.append(weight) if is_hidden else others.add(weight)
    # A weight that a layer shares with an embedding counts as an embedding.
    return [weight for weight in hidden if weight not in others]


def _matrices_of(layer: nn.Module) -> tuple[str, ...]:
    return next((names for kinds, names in _MATRICES.items() if isinstance(layer, kinds)), ())


def orthogonalized(matrices: Sequence[Tensor], iterations: int = 5) -> list[Tensor]:
    """Approximately U V^T of the singular value decomposition U S V^T of each matrix [rows, columns].

    A Newton-Schulz iteration of fifth order, whose coefficients bring singular values to 0.7 .. 1.2 in a few rounds.
    Each round multiplies from the left by a polynomial of x x^T. The polynomials are multiplied first, in that small
    matrix, so the large matrix is read only twice. Matrices with the same number of rows are processed as one batch.
    """
    wide = [matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T for matrix in matrices]
    wide = [x / (x.norm() + 1e-7) for x in wide]
    places: dict[int, list[int]] = defaultdict(list)
    for place, x in enumerate(wide):
        places[len(x)].append(place)
    for alike in places.values():
        grams = torch.stack([wide[place] @ wide[place].T for place in alike])
        for place, rounds in zip(alike, _rounds(grams, iterations), strict=True):
            wide[place] = rounds @ wide[place]
    return [x if x.shape == matrix.shape else x.T for x, matrix in zip(wide, matrices, strict=True)]


def _rounds(gram: Tensor, iterations: int) -> Tensor:
    """The product of the polynomials of all rounds, from x x^T as [count, rows, rows]."""
    together = once = _polynomial(gram)
    for _ in range(iterations - 1):
        gram = once @ gram @ once
        once = _polynomial(gram)
        together = once @ together
    return together


def _polynomial(gram: Tensor) -> Tensor:
    """3.4445 - 4.7750 g + 2.0315 g^2, the coefficients of Jordan et al."""
    out = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
    out.diagonal(dim1=1, dim2=2).add_(3.4445)
    return out


class Muon(torch.optim.Optimizer):
    """An update has the root mean square of a typical one of Adam, 0.2 times the learning rate, so one rate fits both.

    The scale is from Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2
    (https://arxiv.org/abs/2502.16982).
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        """`matrices`: weights of two or more dimensions, as `hidden_matrices` returns them."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # it does not support a closure
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            rows = [self._momentum_ahead(weight).movedim(1, -1) for weight in weights]
            # One row for each output; channels_last stores the values of a row contiguously in this order.
            matrices = orthogonalized([each.flatten(1).float() for each in rows])
            for weight, shaped, matrix in zip(weights, rows, matrices, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                step = matrix.reshape(shaped.shape).movedim(-1, 1).to(weight.dtype)
                weight.add_(step, alpha=-0.2 * max(matrix.shape) ** 0.5 * group["lr"])

    def _momentum_ahead(self, weight: Tensor) -> Tensor:
        """Nesterov momentum: the gradient mixed with its running average."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(state["momentum"], _MOMENTUM)
