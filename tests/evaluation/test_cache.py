"""The cache of reference statistics: what is not whole, or not what it says, is measured again and never executed."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpmkit.evaluation.cache import Entry, fetch, path_of, store

STATE = {"sum": torch.arange(6, dtype=torch.float64), "outer": torch.eye(3, dtype=torch.float64)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path))
    store("key", 12, STATE, {"fid": 3.5})
    return path_of("key")


class Trap:
    """Executed by whoever unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, ("raise SystemExit('executed')",)


def test_what_was_stored_is_fetched(file: Path) -> None:
    found = fetch("key")
    assert isinstance(found, Entry)
    assert (found.num_images, found.floor) == (12, {"fid": 3.5})
    assert all(torch.equal(found.state[name], STATE[name]) for name in STATE)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("step", [1, 7])
def test_every_flipped_byte_is_found_with_one_line(file: Path, step: int, caplog: pytest.LogCaptureFixture) -> None:
    whole = file.read_bytes()
    for place in range(0, len(whole), step):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ step]) + whole[place + 1 :])
        caplog.clear()
        found = fetch("key")
        # A space between the header's JSON and the tensors carries nothing.
        if found is not None:
            assert all(torch.equal(found.state[name], STATE[name]) for name in STATE)
            assert (found.num_images, found.floor) == (12, {"fid": 3.5})
        else:
            assert len(caplog.records) == 1
            assert "measured again" in caplog.text


HEADER_BOMB = (2**60).to_bytes(8, "little") + b"{}"
SHAPE_BOMB_HEADER = b'{"x":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8000000000000]}}'
SHAPE_BOMB = len(SHAPE_BOMB_HEADER).to_bytes(8, "little") + SHAPE_BOMB_HEADER


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, pickle.dumps(Trap()), HEADER_BOMB, SHAPE_BOMB, b"<html>"],
    ids=["empty", "zeros", "pickle", "header bomb", "shape bomb", "html"],
)
def test_what_is_no_reference_is_never_executed_and_measured_again(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert fetch("key") is None
    (line,) = caplog.messages
    assert "measured again" in line


def test_tensors_of_someone_else_have_no_digest_that_fits(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = load_file(file)
    tensors["state.sum"] += 1
    save_file(tensors, file)
    assert fetch("key") is None
    assert "does not match its digest" in caplog.text


def test_an_array_of_objects_is_no_picture_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other cache, of decoded pictures, is NumPy's format: objects in it would be pickles."""
    from ddpmkit_plugins.image_folder import cache

    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path))
    decoded = cache.Decoded(np.zeros((1, 3, 8, 8), dtype=np.uint8), "digest", {})
    stored = cache.store("key", decoded)
    assert stored is not None
    assert cache.fetch("key") is not None
    np.save(stored, np.array([Trap()], dtype=object), allow_pickle=True)
    assert cache.fetch("key") is None
