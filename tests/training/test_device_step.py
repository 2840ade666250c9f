"""A training step on a CUDA device never waits for the host or reads it: counted without a GPU, on fake tensors."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._pytree import tree_leaves

from ddpmkit.data.training_batches import Examples
from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.model import build_model
from ddpmkit.recipe import read_recipe
from ddpmkit.runtime import Runtime
from ddpmkit.training.trainer import Trainer
from host_synchronisations import HostSynchronisations

CUDA = torch.device("cuda:0")
# Fake tensors cannot compute these. On CUDA they run on the device.
FUSED = {torch.ops.aten._fused_adam_, torch.ops.aten._fused_adamw_}
TIMES_A_TENSOR = torch.ops.aten._foreach_mul_.Tensor


class StepSynchronisations(HostSynchronisations):
    """Also records each use of a tensor on the CPU: a graph would keep the value that it had during the capture."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.record(f"{func} uses a tensor of the CPU")
        if func.overloadpacket in FUSED:
            return None
        if func is TIMES_A_TENSOR:
            torch._foreach_mul_(args[0], [args[1]] * len(args[0]))
            return None
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        except DataDependentOutputException:  # the read was recorded; a fake tensor has no value
            return False


def fake_copy(module: nn.Module) -> nn.Module:
    """Replace all tensors of a module by fake ones on a CUDA device."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            part._parameters[name] = None if weight is None else nn.Parameter(torch.empty_like(weight, device=CUDA))
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else torch.empty_like(buffer, device=CUDA)
    return module


def waits_of_a_step(sections: dict[str, Any]) -> list[str]:
    data = {"use": "critters", "image_size": 16, "size": 8, "val_size": 1}
    train = {"batch_size": 4, "precision": "float32", **sections.get("train", {})}
    sections = {"backbone": {"use": "attention-unet", "dim": 8}, **sections, "train": train}
    recipe = read_recipe({"data": {**data, **sections.pop("data", {})}, **sections}, name="step")
    model, images = build_model(recipe, "cpu"), build_images(recipe, "train")
    objective = model.objective()
    waits = StepSynchronisations()
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        with FakeTensorMode(allow_non_fake_inputs=True):
            network, _ = fake_copy(model.network), fake_copy(objective.process)
            objective = dataclasses.replace(objective, runtime=Runtime(CUDA, torch.float32))
            trainer = Trainer(network, objective, images, recipe.train, capture=False)
            trainer._batches._loaded = Examples(
                torch.zeros((4, 3, 16, 16), dtype=torch.uint8, device=CUDA),
                torch.zeros(4, dtype=torch.int64, device=CUDA),
            )

            def backward(_loss: Tensor) -> None:
                """Torch's engine needs a CUDA device. It reads nothing on the host."""
                for weight in network.parameters():
                    weight.grad = torch.zeros_like(weight)

            patch.setattr(Tensor, "backward", backward)
            with waits:
                trainer.compute_step(self_condition=objective.process.self_conditioning)
                waits.found.clear()  # tables may move to the device in the first step, which is never captured
                trainer.compute_step(self_condition=objective.process.self_conditioning)
    return waits.found


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"train": {"optimizer": "adam", "gradient_clip": 0.0, "ema_decay": 0.0}},
        {"train": {"optimizer": "adamw", "weight_decay": 0.1, "accumulate": 2}},
        {"train": {"optimizer": "muon", "weight_decay": 0.1, "on_nonfinite": "skip"}},
        {"train": {"ema_decays": (0.9,), "ema_sigma_rels": (0.1, 0.2)}},
        {"train": {"label_dropout": 0.1}, "data": {"labels": True, "classes": ["cat", "dog"]}},
        {"diffusion": {"self_conditioning": True, "offset_noise": 0.1}},
        {"diffusion": {"prediction": "v", "zero_terminal_snr": True}, "loss": {"use": "l2"}},
        {"loss": {"use": "iddpm-hybrid"}},
        {"loss": {"use": "huber"}, "diffusion": {"prediction": "x0"}},
        {"loss": {"use": "min-snr"}},
        {"loss": {"use": "p2"}},
        {"backbone": {"use": "adm-unet", "dim": 32}},
        {"backbone": {"use": "dit", "patch_size": 4, "dim": 32, "depth": 1, "heads": 2}},
    ],
    ids=str,
)
def test_the_host_neither_waits_nor_is_read(sections: dict[str, Any]) -> None:
    assert waits_of_a_step(sections) == []


def test_a_read_on_the_host_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compute_step = Trainer.compute_step

    def reading(trainer: Trainer, *, self_condition: bool) -> None:
        compute_step(trainer, self_condition=self_condition)
        bool(trainer._learning_rate > 0)
        trainer._learning_rate.add_(torch.ones(()))

    monkeypatch.setattr(Trainer, "compute_step", reading)
    found = waits_of_a_step({})
    assert len(found) == 2
    assert all("test_device_step.py" in place for place in found)
