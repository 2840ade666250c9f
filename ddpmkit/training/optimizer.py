"""The recipe's optimizer: Adam or AdamW for all weights, or Muon for hidden layers and AdamW for the others.

An update reads nothing on the host, so a CUDA graph can contain it. `torch.optim` is not used: `torch.compile` cannot
trace its `step` in one graph, and a step that is not finite must be skipped on the device.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection
from ddpmkit.training.muon import Muon, hidden_matrices

__all__ = ["Optimizer", "clip_gradient"]

_ADAMS = ("step", "exp_avg", "exp_avg_sq")
_EPS = 1e-8


class Optimizer:
    """Updates all weights of a network in place, and stores their moments."""

    def __init__(self, network: nn.Module, settings: TrainSection) -> None:
        """Allocate the moments. `settings.optimizer` is "adam", "adamw" or "muon"."""
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        matrices = hidden_matrices(network) if settings.optimizer == "muon" else []
        self._muon = Muon(matrices, settings.weight_decay)
        momentum = self._muon.momentum
        self._adam = _Adam([weight for weight in self.weights.values() if weight not in momentum], settings)
        self._moments: dict[nn.Parameter, dict[str, Tensor]] = {
            **{weight: {"momentum": value} for weight, value in momentum.items()},
            **self._adam.moments,
        }

    @property
    def muon_weights(self) -> list[str]:
        """The names of the weights that Muon updates."""
        return [name for name, weight in self.weights.items() if "momentum" in self._moments[weight]]

    def update(self, learning_rate: Tensor, is_finite: Tensor) -> None:
        """Update every weight that has a gradient.

        `learning_rate`: float32 []; `is_finite`: bool []; both on the device of the weights. If `is_finite` is False,
        weights and moments do not change, whatever the gradients are.
        """
        self._adam.update(learning_rate, is_finite)
        self._muon.update(learning_rate, is_finite)

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for weight in self.weights.values():
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments of every weight, by `weight name/moment`."""
        return {
            f"{name}/{moment}": value
            for name, weight in self.weights.items()
            for moment, value in self._moments[weight].items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of `tensors`."""
        return {name: tuple(value.shape) for name, value in self.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `tensors` returned. The tensors must have the names and the shapes `shapes()`."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])


class _Adam:
    """Adam (Kingma & Ba, 2015) or AdamW (Loshchilov & Hutter, 2019), by torch's fused kernels."""

    def __init__(self, weights: Iterable[nn.Parameter], settings: TrainSection) -> None:
        self._kernel = torch._fused_adam_ if settings.optimizer == "adam" else torch._fused_adamw_
        (self._beta1, self._beta2), self._weight_decay = settings.betas, settings.weight_decay
        self.moments: dict[nn.Parameter, dict[str, Tensor]] = {
            weight: {
                "step": torch.zeros((), device=weight.device),
                "exp_avg": torch.zeros_like(weight, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(weight, requires_grad=False),
            }
            for weight in weights
        }
        groups: dict[Hashable, list[nn.Parameter]] = defaultdict(list)
        for weight in self.moments:
            groups[weight.device, weight.dtype].append(weight)
        self._groups = list(groups.values())  # a kernel takes tensors of one device and one dtype

    @torch.no_grad()
    def update(self, learning_rate: Tensor, is_finite: Tensor) -> None:
        """Update every weight that has a gradient, unless `is_finite` is False. See `Optimizer.update`."""
        counted = is_finite.float()
        for group in self._groups:
            weights = [weight for weight in group if weight.grad is not None]
            if not weights:
                continue
            steps, means, squares = ([self.moments[weight][name] for weight in weights] for name in _ADAMS)
            torch._foreach_add_(steps, [counted] * len(steps))
            self._kernel(
                weights,  # type: ignore[arg-type]  # a list of parameters is a list of tensors
                [weight.grad for weight in weights],  # type: ignore[misc]  # none is None here
                means,
                squares,
                [],
                steps,
                lr=learning_rate,
                beta1=self._beta1,
                beta2=self._beta2,
                weight_decay=self._weight_decay,
                eps=_EPS,
                amsgrad=False,
                maximize=False,
                found_inf=1 - counted,
            )


def clip_gradient(weights: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradient in place to norm `max_norm` (0: never) at most. Return its norm before, float32 []."""
    weights = list(weights)
    norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if max_norm:
        nn.utils.clip_grads_with_norm_(weights, max_norm, norm)
    return norm
