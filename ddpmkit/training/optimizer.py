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
    """Updates all weights of a network, and stores their moments. The caller sets the learning rate of each step."""

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
        self._optimizers: list[torch.optim.Optimizer] = []
        if others:
            self._optimizers.append(adam(others, lr=rate, betas=settings.betas, weight_decay=decay, fused=True))
        if matrices:
            self._optimizers.append(Muon(matrices, lr=rate, weight_decay=decay))
        self._optimizer_of = {
            weight: optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for weight in group["params"]
        }

    @property
    def muon_weights(self) -> list[str]:
        """The names of the weights that Muon updates."""
        return [name for name, weight in self.weights.items() if isinstance(self._optimizer_of[weight], Muon)]

    def assign_as_before(self, names: Iterable[str]) -> list[str]:
        """Assign weights to Muon as in the checkpoint whose optimizer tensors have these `names`.

        So a run from an older ddpmkit, which chose other weights, continues bit for bit. Returns the weights for which
        a new run would choose the other optimizer. Nothing changes unless `names` belong to exactly these weights.
        """
        names = list(names)
        muon_before = {name.removesuffix(_MOMENTUM) for name in names if name.endswith(_MOMENTUM)}
        muon_now = set(self.muon_weights)
        is_complete = {name.rpartition("/")[0] for name in names} == self.weights.keys()
        if self._settings.optimizer != "muon" or not is_complete or muon_before == muon_now:
            return []
        self._assign(muon_before)
        return sorted(muon_before ^ muon_now)

    def step(self, learning_rate: float) -> None:
        """Update every weight by its gradient."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments of every weight that has been updated, by `weight name/moment`."""
        return {
            f"{name}/{moment}": value
            for name, weight in self.weights.items()
            for moment, value in self._optimizer_of[weight].state.get(weight, {}).items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of `tensors` after every weight has been updated."""
        return {
            f"{name}/{moment}": () if moment == "step" else tuple(weight.shape)
            for name, weight in self.weights.items()
            for moment in self._moments(weight)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `tensors` returned. The tensors must have the shapes `shapes()`, or be empty."""
        for optimizer in self._optimizers:
            optimizer.state.clear()
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            weight = self.weights[name]
            # Moments need the memory format of their weights (channels last): the fused Adam reads both in parallel.
            target = torch.empty_like(weight if value.shape == weight.shape else value, device=weight.device)
            self._optimizer_of[weight].state[weight][moment] = target.detach().copy_(value)

    def _moments(self, weight: nn.Parameter) -> tuple[str, ...]:
        return ("momentum",) if isinstance(self._optimizer_of[weight], Muon) else _ADAMS
