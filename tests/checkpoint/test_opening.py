import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpmkit.checkpoint import open_checkpoint, save_checkpoint
from ddpmkit.errors import InputError

Parts = Callable[..., dict[str, dict[str, torch.Tensor]]]


def test_every_flipped_byte_is_detected(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    for file in saved.path.iterdir():
        content = file.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 40)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(InputError, match=r"checkpoint .*step-00000007"):
                open_checkpoint(saved.path)
        file.write_bytes(content)
    open_checkpoint(saved.path)


def test_a_path_outside_the_folder_in_the_manifest_is_refused(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    manifest = saved.path / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["../outside"] = "0" * 64
    manifest.write_text(json.dumps(content, indent=2) + "\n")
    with pytest.raises(InputError, match="damaged"):
        open_checkpoint(saved.path)
