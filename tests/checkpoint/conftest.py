from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.lock.toml"
    file.write_text('name = "x"\n')
    return file


@pytest.fixture
def parts() -> Callable[..., dict[str, dict[str, torch.Tensor]]]:
    """Makes the tensors of a small checkpoint, with one value in all weights."""

    def make(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
        model = {"weight": torch.full((4, 3, 3, 3), value).to(memory_format=torch.channels_last)}
        return {"model": model, "optimizer": {"weight/step": torch.tensor(3.0)}}

    return make
