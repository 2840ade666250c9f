"""The recipe's optimizer: one of torch's own for all weights, or Muon for hidden layers beside Adam for the rest."""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection
from ddpmkit.training.muon import Muon, hidden_matrices

__all__ = ["Optimizer"]

_ADAMS = ("step", "exp_avg", "exp_avg_sq")
_MOMENTUM = "/momentum"


class Optimizer:
    """All weights of a network, each with its moments."""

    def __init__(self, network: nn.Module, settings: TrainSection) -> None:
        """`settings.optimizer` says which: adam, adamw or muon."""
        self._settings = settings
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        matrices = set(hidden_matrices(network)) if settings.optimizer == "muon" else set()
        self._divide({name for name, weight in self.weights.items() if weight in matrices})

    def _divide(self, by_muon: Collection[str]) -> None:
        """Begin anew, with these weights for Muon and the others for Adam."""
        settings, rate, decay = self._settings, self._settings.learning_rate, self._settings.weight_decay
        matrices = [weight for name, weight in self.weights.items() if name in by_muon]
        others = [weight for name, weight in self.weights.items() if name not in by_muon]
        adam = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            self._parts.append(adam(others, lr=rate, betas=settings.betas, weight_decay=decay, fused=True))
        if matrices:
            self._parts.append(Muon(matrices, lr=rate, weight_decay=decay))
        self._part_of = {
            weight: part for part in self._parts for group in part.param_groups for weight in group["params"]
        }

    @property
    def by_muon(self) -> list[str]:
        """The names of the weights that Muon moves."""
        return [name for name, weight in self.weights.items() if isinstance(self._part_of[weight], Muon)]

    def divide_as(self, names: Iterable[str]) -> list[str]:
        """Let Muon move the weights that it moved in the run whose tensors have these `names`.

        So a run that a version with another choice began continues bit for bit. Returns the weights for which a new
        run would choose otherwise. Names that are not those of these weights change nothing.
        """
        names = list(names)
        then = {name.removesuffix(_MOMENTUM) for name in names if name.endswith(_MOMENTUM)}
        now = set(self.by_muon)
        complete = {name.rpartition("/")[0] for name in names} == self.weights.keys()
        if self._settings.optimizer != "muon" or not complete or then == now:
            return []
        self._divide(then)
        return sorted(then ^ now)

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
