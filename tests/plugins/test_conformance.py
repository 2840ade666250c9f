"""Every built-in component passes every conformance check. Components with required keys receive them here."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.testing import conformance_checks

BUILT_INS = discover(third_party=False).components


class Features(nn.Module):
    """Replaces the layers of the Inception file: [B, 3, 299, 299] in -1 .. 1 -> features [B, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2048, 3 * 16, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return torch.relu(pooled @ self.weight.t())


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Features()

    def forward(self, x: Tensor, return_features: bool = True) -> Tensor:
        return self.layers(x / 128 - 1)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The settings that a component needs: a folder of images, a network file, a mode without a server."""

    def for_component(use: str) -> dict[str, Any]:
        if use in ("image-folder", "image-archive"):
            for number in range(4):
                path = tmp_path / "train" / "cat" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path)
            if use == "image-archive":
                return {"path": shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path, "train")}
            return {"root": str(tmp_path)}
        if use == "huggingface":
            rows = [{"image": Image.effect_noise((20, 24), sigma), "label": f"{sigma % 2}"} for sigma in range(40, 44)]
            datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
            return {"path": str(tmp_path / "saved")}
        if use in ("clean-fid", "clean-kid", "precision-recall"):
            file = tmp_path / "inception-2015-12-05.pt"
            torch.jit.script(Inception()).save(str(file))
            return {"inception": str(file)}
        if use == "fd":
            file = tmp_path / "extractor.pt"
            torch.jit.script(Features()).save(str(file))
            return {"extractor": str(file), "size": 32}
        if use == "critters":
            return {"size": 4, "val_size": 2}
        return {"mode": "offline"} if use == "wandb" else {}

    return for_component


@pytest.mark.parametrize("entry", BUILT_INS, ids=lambda entry: f"{entry.kind}-{entry.component.name}")
# torch.jit is deprecated, but the published Inception file is in this format.
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_every_built_in_passes_every_check(
    entry: RegisteredComponent, settings: Callable[[str], dict[str, Any]]
) -> None:
    checks = conformance_checks(entry, settings=settings(entry.use))
    assert len(checks) >= 5  # the general checks, and those of its kind
    for check in checks:
        check.run()
