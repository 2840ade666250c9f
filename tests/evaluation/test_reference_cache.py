"""The cache of reference statistics: damaged or wrong files are measured again and never executed."""

import logging
import os
import pickle
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from ddpmkit.evaluation.reference_cache import Entry, _digest, load, path_of, store

STATE = {"sum": torch.arange(6, dtype=torch.float64), "outer": torch.eye(3, dtype=torch.float64)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path))
    store("key", 12, STATE, {"fid": 3.5})
    return path_of("key")


class Trap:
    """Executed when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, ("raise SystemExit('executed')",)


def test_a_stored_reference_is_loaded(file: Path) -> None:
    found = load("key")
    assert isinstance(found, Entry)
    assert (found.num_images, found.floor) == (12, {"fid": 3.5})
    assert all(torch.equal(found.state[name], STATE[name]) for name in STATE)
    assert list(file.parent.iterdir()) == [file]


def test_the_mode_of_a_reference_follows_the_umask(file: Path) -> None:
    before = os.umask(0o022)
    try:
        store("shared", 12, STATE, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path_of("shared").stat().st_mode) == 0o644
    assert {entry.name for entry in file.parent.iterdir()} == {"key.safetensors", "shared.safetensors"}


@pytest.mark.parametrize("step", [1, 7])
def test_every_flipped_byte_is_found_with_one_warning(file: Path, step: int, caplog: pytest.LogCaptureFixture) -> None:
    content = file.read_bytes()
    for place in range(0, len(content), step):
        file.write_bytes(content[:place] + bytes([content[place] ^ step]) + content[place + 1 :])
        caplog.clear()
        found = load("key")
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


def forged(**tensors: torch.Tensor) -> bytes:
    """A file that `store` did not write, with a correct digest."""
    try:
        digest = _digest(tensors)
    except TypeError:  # there is no digest for such a type
        digest = torch.zeros(32, dtype=torch.uint8)
    return save({**tensors, "digest": digest})


ONE = torch.ones(())
NO_REFERENCES = {
    "empty": b"",
    "zeros": b"\0" * 100,
    "pickle": pickle.dumps(Trap()),
    "header bomb": HEADER_BOMB,
    "shape bomb": SHAPE_BOMB,
    "html": b"<html>",
    "without a digest": save({"num_images": ONE}),
    "a digest of another shape": save({"num_images": ONE, "digest": torch.zeros(2, 3)}),
    "without a number of images": forged(x=ONE),
    "several numbers of images": forged(num_images=torch.ones(3)),
    "a number of images that is NaN": forged(num_images=ONE * torch.nan),
    "a floor of several numbers": forged(num_images=ONE, **{"floor.fid": torch.ones(2)}),
    "a type that NumPy does not support": forged(num_images=ONE, **{"state.sum": ONE.bfloat16()}),
}


@pytest.mark.parametrize("content", NO_REFERENCES.values(), ids=NO_REFERENCES.keys())
def test_a_file_that_is_not_a_reference_is_not_executed_and_measured_again(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load("key") is None
    (line,) = caplog.messages
    assert "measured again" in line
    assert "\n" not in line


@pytest.mark.parametrize("what", ["pipe", "folder", "device"])
def test_a_pipe_in_the_cache_is_not_read(file: Path, what: str) -> None:
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero")
    assert load("key") is None


def test_a_sparse_terabyte_is_not_read(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(file, 10**12)
    assert load("key") is None
    (line,) = caplog.messages
    assert "measured again" in line


def test_other_tensors_have_no_matching_digest(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = load_file(file)
    tensors["state.sum"] += 1
    save_file(tensors, file)
    assert load("key") is None
    assert "does not match its digest" in caplog.text
