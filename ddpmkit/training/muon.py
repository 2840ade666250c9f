"""Muon: updates a weight matrix with its orthogonalized momentum (all singular values near 1).

Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon).
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ddpmkit.contracts import LayeredBackbone

__all__ = ["Muon", "hidden_matrices", "orthogonalize"]

_MOMENTUM = 0.95
_ROUNDS = (
    (13.6638, -129.555, 427.01, -546.333, 237.049),
    (4.53076, -9.82579, 8.7988, -3.19703, 0.401038),
)
"""The coefficients of x, x^3, x^5, x^7 and x^9 in each round.

Each round is the polynomial of this form that deviates least from 1 on the interval that contains the singular values:
first 0.01209 .. 1, then 0.1459 .. 1.8541. Such rounds are the best ones with these degrees: Amsel et al. (2025), "The
Polar Express" (https://arxiv.org/abs/2505.16932), theorem 3.1.
"""
_EPS = 1e-7  # matrices with smaller singular values change less
_TINY = 1e-15
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


def orthogonalize(stacks: Sequence[Tensor], scales: Sequence[float], rate: Tensor) -> list[Tensor]:
    """Return about scale * rate * U V^T of the singular value decomposition U S V^T of each matrix.

    `stacks`: float32 [count, rows, columns] each, with one scale for each; `rate`: []. With the bound
    (sum S^8)^(1/8), which is 1 to 2 times the largest singular value for up to 256 rows: singular values from 1.21 % of
    the bound become 0.7 to 1.3 times scale * rate, and smaller ones 58 to 62 times scale * rate / bound as large as
    before.

    Both polynomials of x x^T are multiplied with each other, and x with their product, so the large x is read only
    twice. Matrices x x^T of the same size are processed as one batch.
    """
    is_tall = [stack.shape[1] > stack.shape[2] for stack in stacks]
    grams = [x.mT @ x if tall else x @ x.mT for x, tall in zip(stacks, is_tall, strict=True)]
    by_side: dict[int, list[int]] = defaultdict(list)
    for index, gram in enumerate(grams):
        by_side[gram.shape[1]].append(index)
    roots: dict[int, Tensor] = {}
    for indices in by_side.values():
        batch = _inverse_roots(torch.cat([grams[index] for index in indices]), rate)
        roots.update(zip(indices, torch.split(batch, [len(grams[index]) for index in indices]), strict=True))
    torch._foreach_mul_([roots[index] for index in range(len(stacks))], scales)
    return [
        x @ roots[index] if tall else roots[index] @ x
        for index, (x, tall) in enumerate(zip(stacks, is_tall, strict=True))
    ]


def _inverse_roots(gram: Tensor, rate: Tensor) -> Tensor:
    """Return about rate * gram^(-1/2), from x x^T [count, rows, rows]."""
    trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None].clamp(min=_TINY)
    gram = gram / trace
    square = gram @ gram
    # The sum of the fourth powers of the eigenvalues is this sum of squares. Its fourth root bounds them all, and is
    # nearer to the largest one than the trace, so the rounds reach smaller eigenvalues.
    bound = square.square().sum(dim=(1, 2), keepdim=True).sqrt().sqrt().clamp(min=_TINY)
    gram, square = gram / bound, square / bound.square()
    product = polynomial = _polynomial(gram, square, _ROUNDS[0])
    for coefficients in _ROUNDS[1:]:
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram, gram @ gram, coefficients)
        product = polynomial @ product
    return product * (rate / ((trace * bound).sqrt() + _EPS))


def _polynomial(gram: Tensor, square: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return a + b g + c g^2 + d g^3 + e g^4 with a single product."""
    a, b, c, d, e = coefficients
    out = torch.baddbmm(torch.add(gram * b, square, alpha=c), square, torch.add(gram * d, square, alpha=e))
    out.diagonal(dim1=1, dim2=2).add_(a)
    return out


def _is_channels_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _as_matrix(weight: Tensor) -> Tensor:
    """Return a weight as [outputs, others], with the others in the order in which they are stored."""
    return (weight.movedim(1, -1) if _is_channels_last(weight) else weight).flatten(1)


def _as_weight(values: Tensor, weight: Tensor) -> Tensor:
    """Return the inverse of `_as_matrix`: a view of contiguous values with the shape and memory format of `weight`."""
    if not _is_channels_last(weight):
        return values.view(weight.shape)
    outputs, channels, height, width = weight.shape
    return values.view(outputs, height, width, channels).movedim(-1, 1)


class Muon:
    """The optimizer Muon for weight matrices, in place and without a transfer to the host.

    The root mean square of an update is 0.2 times the learning rate, as is typical for Adam. So both optimizers use the
    same learning rate. The scale is from Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2
    (https://arxiv.org/abs/2502.16982).
    """

    def __init__(self, matrices: Iterable[nn.Parameter], weight_decay: float = 0.0) -> None:
        """`matrices`: weights of two or more dimensions on one device, as `hidden_matrices` returns them."""
        self._weight_decay = weight_decay
        groups: dict[Hashable, list[nn.Parameter]] = defaultdict(list)
        for weight in matrices:
            groups[weight.shape, _is_channels_last(weight), weight.dtype].append(weight)
        self._stacks = list(groups.values())  # weights of one shape
        weights = [weight for stack in self._stacks for weight in stack]
        sizes = [weight.numel() for weight in weights]
        # In one tensor, so that all momenta are updated at once.
        self._momentum = torch.zeros(sum(sizes), device=weights[0].device if weights else None)
        self._parts = dict(zip(weights, torch.split(self._momentum, sizes), strict=True))

    @property
    def momentum(self) -> dict[nn.Parameter, Tensor]:
        """The running average of the gradient of each weight, in the shape of the weight."""
        return {weight: _as_weight(part, weight) for weight, part in self._parts.items()}

    @torch.no_grad()
    def update(self, learning_rate: Tensor, is_finite: Tensor) -> None:
        """Update every weight that has a gradient, unless `is_finite` is False. See `Optimizer.update`."""
        stacks = [[weight for weight in stack if weight.grad is not None] for stack in self._stacks]
        stacks = [stack for stack in stacks if stack]
        weights = [weight for stack in stacks for weight in stack]
        if not weights:
            return
        rate = learning_rate * is_finite
        matrices = torch.split(self._nesterov(weights, is_finite), [len(stack) * stack[0].numel() for stack in stacks])
        changes = orthogonalize(
            [matrix.view(-1, *_as_matrix(stack[0]).shape) for matrix, stack in zip(matrices, stacks, strict=True)],
            [_scale(stack[0]) for stack in stacks],
            rate,
        )
        values: list[Tensor] = list(weights)
        if self._weight_decay:
            torch._foreach_mul_(values, 1 - rate * self._weight_decay)
        every = [change for changed in changes for change in changed.unbind()]
        shaped = [_as_weight(change, weight).to(weight.dtype) for change, weight in zip(every, weights, strict=True)]
        torch._foreach_add_(values, shaped)

    def _nesterov(self, weights: Sequence[nn.Parameter], is_finite: Tensor) -> Tensor:
        """Return the gradients mixed with their running averages (Nesterov momentum), in one float32 vector.

        `weights`: those that have a gradient, in the order of the stacks.
        """
        gradient = torch.cat([_as_matrix(weight.grad).flatten() for weight in weights]).float()  # type: ignore[arg-type]
        # NaN times 0 is NaN, so a gradient that is not finite must be 0 before it is multiplied. An AND of its bits,
        # with ones to keep it or zeros to clear it, is seven times as fast on a CPU as `masked_fill_`.
        gradient.view(torch.int32).bitwise_and_(-is_finite.to(torch.int32))
        parts = [self._parts[weight] for weight in weights]
        is_complete = len(parts) == len(self._parts)
        momentum = self._momentum if is_complete else torch.cat(parts)
        momentum.lerp_(gradient, (1 - _MOMENTUM) * is_finite)
        if not is_complete:
            torch._foreach_copy_(parts, list(torch.split(momentum, [len(part) for part in parts])))
        return gradient.lerp_(momentum, _MOMENTUM)


def _scale(weight: Tensor) -> float:
    """Return the scale of the update of a weight, with the sign of a descent. A matrix has one row for each output."""
    return -0.2 * math.sqrt(max(_as_matrix(weight).shape))
