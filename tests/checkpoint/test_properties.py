"""Property tests: every corruption of a checkpoint is detected, and random files are refused."""

import json
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from corruptions import KINDS, corrupted
from hypothesis import given, settings
from hypothesis import strategies as st
from sealing import PARTS, read_all, seal

from ddpmkit.checkpoint import open_checkpoint, save_checkpoint
from ddpmkit.errors import InputError

many = settings(max_examples=300, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small checkpoints that differ in everything."""
    folder = tmp_path_factory.mktemp("two")
    paths = []
    for step in (1, 2):
        lock = folder / "lock.toml"
        lock.write_text(f"step = {step}\n")
        parts = {part: {"weight": torch.full((9,), float(step)), "bias": torch.arange(step)} for part in PARTS}
        paths.append(save_checkpoint(folder, step, parts, lock).path)
    return paths[0], paths[1]


@many
@given(kind=st.sampled_from(sorted(KINDS)), chance=st.randoms(use_true_random=False))
def test_every_corruption_is_detected(two: tuple[Path, Path], kind: str, chance: random.Random) -> None:
    with corrupted(chance, kind, *two), pytest.raises(InputError):
        open_checkpoint(two[0])
    open_checkpoint(two[0])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
file_names = st.text() | st.sampled_from(["model.safetensors", "../x", "..", ".", "", "/", "a\0b", "\ud800", "x" * 300])


@many
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "format": json_values,
            "step": json_values,
            "files": st.dictionaries(file_names, st.text() | st.just("0" * 64), max_size=2) | json_values,
        },
    )
)
def test_a_manifest_of_any_content_is_used_or_refused(two: tuple[Path, Path], changes: dict[str, Any]) -> None:
    folder = two[0]
    before = (folder / "manifest.json").read_bytes()
    try:
        seal(folder, **changes)
        accepted_or_refused(folder)
    finally:
        (folder / "manifest.json").write_bytes(before)


@many
@given(content=st.binary(max_size=64) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_a_manifest_of_any_bytes_is_refused(two: tuple[Path, Path], content: bytes) -> None:
    file = two[0] / "manifest.json"
    before = file.read_bytes()
    try:
        file.write_bytes(content)
        with pytest.raises(InputError):
            open_checkpoint(two[0])
    finally:
        file.write_bytes(before)


tensor_headers = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X", ""]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 2**31, 2**62, 2**64 - 1, -1]), max_size=4),
        "data_offsets": st.lists(st.sampled_from([0, 4, 8, 2**31, 2**63, 2**64 - 1]), min_size=1, max_size=3),
    }
)
headers = st.dictionaries(st.text(max_size=3), tensor_headers | json_values, max_size=2)


@many
@given(header=headers, data=st.binary(max_size=16), length=st.none() | st.integers(0, 2**64 - 1))
def test_a_tensor_file_of_any_header_is_used_or_refused(
    two: tuple[Path, Path], header: dict[str, Any], data: bytes, length: int | None
) -> None:
    encoded = json.dumps(header).encode()
    with resealed(two[0], struct.pack("<Q", len(encoded) if length is None else length) + encoded + data):
        accepted_or_refused(two[0])


@many
@given(place=st.integers(min_value=0), byte=st.integers(1, 255), cut=st.none() | st.integers(min_value=0))
def test_a_tensor_file_corrupted_before_it_was_sealed_is_used_or_refused(
    two: tuple[Path, Path], place: int, byte: int, cut: int | None
) -> None:
    content = bytearray((two[0] / "model.safetensors").read_bytes())
    content[place % len(content)] ^= byte
    with resealed(two[0], bytes(content[: None if cut is None else cut % len(content)])):
        accepted_or_refused(two[0])


@contextmanager
def resealed(folder: Path, content: bytes) -> Iterator[None]:
    """The checkpoint with another model file and a matching manifest."""
    before = {folder / name: (folder / name).read_bytes() for name in ("model.safetensors", "manifest.json")}
    try:
        (folder / "model.safetensors").write_bytes(content)
        seal(folder)
        yield
    finally:
        for file, old in before.items():
            file.write_bytes(old)


def accepted_or_refused(folder: Path) -> None:
    try:
        read_all(folder)
    except InputError as error:
        str(error).encode()  # can be printed
