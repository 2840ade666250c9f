"""The recipe's optimizer: Adam or AdamW for all weights, or Muon for hidden layers and AdamW for the others."""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection
from ddpmkit.training.muon import Muon, hidden_matrices

__all__ = ["Optimizer"]

_ADAMS = ("step", "exp_avg", "exp_avg_sq")
_MOMENTUM = "/momentum"


class Optimizer:
    """Updates all weights of a network, and stores their moments."""

    def __init__(self, network: nn.Module, settings: TrainSection) -> None:
        """`settings.optimizer` is "adam", "adamw" or "muon"."""
        self._settings = settings
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        matrices = set(hidden_matrices(network)) if settings.optimizer == "muon" else set()
        self._assign({name for name, weight in self.weights.items() if weight in matrices})

    def _assign(self, by_muon: Collection[str]) -> None:
        """Create new optimizers: Muon for the weights with these names, Adam for the others."""
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
    def muon_weights(self) -> list[str]:
        """The names of the weights that Muon updates."""
        return [name for name, weight in self.weights.items() if isinstance(self._part_of[weight], Muon)]

    def assign_as_in(self, names: Iterable[str]) -> list[str]:
        """Let Muon update the weights that it updated in the run whose tensors have these `names`.

        A run that was started by a version with another choice then continues bit for bit. Returns the weights for
        which a new run would choose the other optimizer. Names of other weights change nothing.
        """
        names = list(names)
        then = {name.removesuffix(_MOMENTUM) for name in names if name.endswith(_MOMENTUM)}
        now = set(self.muon_weights)
        complete = {name.rpartition("/")[0] for name in names} == self.weights.keys()
        if self._settings.optimizer != "muon" or not complete or then == now:
            return []
        self._assign(then)
        return sorted(then ^ now)

    def step(self, learning_rate: float) -> None:
        """Update every weight by its gradient."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The moments of every weight that has been updated, by `weight name/moment`."""
        return {
            f"{name}/{moment}": value
            for name, weight in self.weights.items()
            for moment, value in self._part_of[weight].state.get(weight, {}).items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of `tensors` after every weight has been updated."""
        return {
            f"{name}/{moment}": () if moment == "step" else tuple(weight.shape)
            for name, weight in self.weights.items()
            for moment in self._moments(weight)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `tensors` returned. The tensors must fit `shapes`, or there must be none."""
        for part in self._parts:
            part.state.clear()
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            weight = self.weights[name]
            # Moments need the memory format of their weights (channels last): the fused Adam reads both in parallel.
            place = torch.empty_like(weight if value.shape == weight.shape else value, device=weight.device)
            self._part_of[weight].state[weight][moment] = place.detach().copy_(value)

    def _moments(self, weight: nn.Parameter) -> tuple[str, ...]:
        return ("momentum",) if isinstance(self._part_of[weight], Muon) else _ADAMS
