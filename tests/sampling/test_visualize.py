import importlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from ddpmkit.run_folder import RunFolder

visualize = importlib.import_module("ddpmkit.sampling.visualize")


def test_the_finished_image_is_labelled_as_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def strip(images: Sequence[Tensor], captions: Sequence[str]) -> Image.Image:
        shown.extend(captions)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(visualize, "strip", strip)
    frames = [(t, torch.zeros(1, 3, 8, 8, dtype=torch.uint8)) for t in (50, 38, 25, 13, 0)]
    visualize._write(RunFolder(tmp_path), "backward", frames, {})
    assert shown == ["0 %  (t = 50)", "25 %  (t = 38)", "50 %  (t = 25)", "75 %  (t = 13)", "end  (t = 0)"]
