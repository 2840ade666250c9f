"""The recipe's optimizer: one of torch's own for all weights, or Muon for the matrices beside Adam for the rest.

It does not know the loss, nor when a step is taken.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection
from ddpmkit.training.muon import Muon, is_matrix

__all__ = ["Optimizer"]

_ADAMS = ("step", "exp_avg", "exp_avg_sq")


class Optimizer:
    """All weights of a network, each with its moments."""

    def __init__(self, network: nn.Module, settings: TrainSection) -> None:
        """`settings.optimizer` says which: adam, adamw or muon."""
        rate, decay = settings.learning_rate, settings.weight_decay
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        matrices = [weight for weight in self.weights.values() if settings.optimizer == "muon" and is_matrix(weight)]
        others = [weight for weight in self.weights.values() if weight not in set(matrices)]
        adam = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            self._parts.append(adam(others, lr=rate, betas=settings.betas, weight_decay=decay, fused=True))
        if matrices:
            self._parts.append(Muon(matrices, lr=rate, weight_decay=decay))
        self._part_of = {
            weight: part for part in self._parts for group in part.param_groups for weight in group["params"]
        }

    def step(self, learning_rate: float) -> None:
        """Move every weight by its gradient."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """`weight name/moment` of every weight that has moved."""
        return {
            f"{name}/{moment}": value
            for name, weight in self.weights.items()
            for moment, value in self._part_of[weight].state.get(weight, {}).items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all that `tensors` holds once every weight has moved."""
        return {
            f"{name}/{moment}": () if moment == "step" else tuple(weight.shape)
            for name, weight in self.weights.items()
            for moment in self._moments(weight)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; they fit `shapes`, or there are none."""
        for part in self._parts:
            part.state.clear()
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            weight = self.weights[name]
            # Moments lie in memory as their weights do (channels last): the fused Adam walks both side by side.
            place = torch.empty_like(weight if value.shape == weight.shape else value, device=weight.device)
            self._part_of[weight].state[weight][moment] = place.detach().copy_(value)

    def _moments(self, weight: nn.Parameter) -> tuple[str, ...]:
        return ("momentum",) if isinstance(self._part_of[weight], Muon) else _ADAMS
