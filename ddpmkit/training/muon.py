"""Muon: updates a weight matrix with its orthogonalized momentum (all singular values near 1).

Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ddpmkit.contracts import LayeredBackbone

__all__ = ["Muon", "hidden_matrices", "orthogonalize"]

_MOMENTUM = 0.95
_NARROWEST = 8  # matrices with fewer rows or columns are treated as outer layers
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MATRICES: dict[tuple[type[nn.Module], ...], tuple[str, ...]] = {
    (nn.Linear, *_CONVOLUTIONS): ("weight",),
    (nn.MultiheadAttention,): ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
}
"""The names of the weights that map features to features, by the class of the module."""


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Return the weights of linear maps and convolutions inside the network, which Muon should update.

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


def orthogonalize(matrices: Sequence[Tensor], iterations: int = 5) -> list[Tensor]:
    """Return approximately U V^T of the singular value decomposition U S V^T of each matrix [rows, columns].

    A Newton-Schulz iteration of fifth order, whose coefficients bring singular values to 0.7 .. 1.2 in a few rounds.
    Each round multiplies x by a polynomial of x x^T. All polynomials are multiplied first, and x once by their product,
    so the large matrix x is read only twice. Matrices with the same number of rows are processed as one batch.
    """
    wide = [matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T for matrix in matrices]
    wide = [x / (x.norm() + 1e-7) for x in wide]
    indices_by_rows: dict[int, list[int]] = defaultdict(list)
    for index, x in enumerate(wide):
        indices_by_rows[len(x)].append(index)
    for indices in indices_by_rows.values():
        grams = torch.stack([wide[index] @ wide[index].T for index in indices])
        for index, product in zip(indices, _product_of_rounds(grams, iterations), strict=True):
            wide[index] = product @ wide[index]
    return [x if x.shape == matrix.shape else x.T for x, matrix in zip(wide, matrices, strict=True)]


def _product_of_rounds(gram: Tensor, iterations: int) -> Tensor:
    """Return the product of the polynomials of all rounds, from x x^T as [count, rows, rows]."""
    product = polynomial = _polynomial(gram)
    for _ in range(iterations - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram)
        product = polynomial @ product
    return product


def _polynomial(gram: Tensor) -> Tensor:
    """Return 3.4445 - 4.7750 g + 2.0315 g^2, with the coefficients of Jordan et al."""
    out = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
    out.diagonal(dim1=1, dim2=2).add_(3.4445)
    return out


class Muon(torch.optim.Optimizer):
    """The optimizer Muon for weight matrices.

    The root mean square of an update is 0.2 times the learning rate, as is typical for Adam. So both optimizers use the
    same learning rate. The scale is from Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2
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
            rows = [self._nesterov_gradient(weight).movedim(1, -1) for weight in weights]
            # One row for each output; channels_last stores the values of a row contiguously in this order.
            matrices = orthogonalize([each.flatten(1).float() for each in rows])
            for weight, shaped, matrix in zip(weights, rows, matrices, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                step = matrix.reshape(shaped.shape).movedim(-1, 1).to(weight.dtype)
                weight.add_(step, alpha=-0.2 * max(matrix.shape) ** 0.5 * group["lr"])

    def _nesterov_gradient(self, weight: Tensor) -> Tensor:
        """Return the gradient mixed with its running average (Nesterov momentum)."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(state["momentum"], _MOMENTUM)
