"""Datasets that are created here and saved to disk; nothing is downloaded."""

import errno
import io
import logging
import os
import re
import resource
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets.exceptions import DatasetNotFoundError
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ddpmkit.contracts import ImageShape
from ddpmkit.errors import ComponentUnavailable, InputError
from ddpmkit_plugins.huggingface import HuggingFaceConfig, dataset
from ddpmkit_plugins.huggingface.dataset import HuggingFaceDataset, decode_row

SQUARE = ImageShape(3, 16, 16)
NAMES = ["cat", "dog", "bee"]
LABELS = [1, 0, 2, 0, 1, 1]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def rows(seeds: range, labels: Sequence[Any] = LABELS, kind: Any = None) -> datasets.Dataset:
    return table([png(noise(seed)) for seed in seeds], labels, kind)


def table(contents: Sequence[bytes | None], labels: Sequence[Any], kind: Any = None) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": kind or datasets.ClassLabel(names=NAMES)})
    images = [None if content is None else {"bytes": content, "path": None} for content in contents]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


def saved(tmp_path: Path, **splits: datasets.Dataset) -> Path:
    datasets.DatasetDict(splits or {"train": rows(range(6))}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def loaded(path: Path | str, split: str = "train", classes: tuple[str, ...] | None = None, **keys: Any) -> Any:
    shape = keys.pop("shape", SQUARE)
    return HuggingFaceDataset(
        HuggingFaceConfig(path=str(path), **keys), split=split, classes=classes, image_shape=shape
    )


def shown(found: HuggingFaceDataset) -> NDArray[np.uint8]:
    return found.images(np.arange(len(found)))


def labels(found: HuggingFaceDataset) -> list[int]:
    return found.labels(np.arange(len(found))).tolist()


def expected(image: Image.Image, shape: ImageShape = SQUARE) -> NDArray[np.uint8]:
    fitted = ImageOps.fit(image, (shape.width, shape.height), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(shape.height, shape.width, -1).transpose(2, 0, 1)


def test_rows_are_in_order_with_their_labels(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path))
    assert found.class_names == tuple(NAMES)
    assert labels(found) == LABELS
    assert np.array_equal(shown(found), np.stack([expected(noise(seed)) for seed in range(6)]))
    assert np.array_equal(found.images(np.array([4, 1])), shown(found)[[4, 1]])
    assert found.images(np.array([], dtype=np.int64)).shape == (0, 3, 16, 16)


def test_returned_arrays_are_writable(tmp_path: Path) -> None:
    torch.from_numpy(shown(loaded(saved(tmp_path)))).zero_()  # torch warns if it is read-only


@pytest.mark.parametrize("shape", [ImageShape(1, 8, 8), ImageShape(3, 9, 30), ImageShape(1, 36, 12)])
def test_any_shape(tmp_path: Path, shape: ImageShape) -> None:
    assert shown(loaded(saved(tmp_path), shape=shape)).shape == (6, *shape)


def test_labels_index_the_requested_classes(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path), classes=("bee", "dog"))
    assert found.class_names == ("bee", "dog")
    assert labels(found) == [1, 0, 1, 1]
    assert np.array_equal(shown(found), np.stack([expected(noise(seed)) for seed in (0, 2, 4, 5)]))


@pytest.mark.parametrize(
    ("kind", "values", "names"),
    [
        ("string", ["dog", "cat", "dog", "cat", "ant", "ant"], ("ant", "cat", "dog")),
        ("int64", [10, 9, 10, 9, 100, 100], ("9", "10", "100")),
        ("bool", [True, False, True, False, True, True], ("False", "True")),
    ],
)
def test_plain_values_are_classes_too(tmp_path: Path, kind: str, values: list[Any], names: tuple[str, ...]) -> None:
    found = loaded(saved(tmp_path, train=rows(range(6), values, datasets.Value(kind))))
    assert found.class_names == names
    assert [found.class_names[label] for label in labels(found)] == [str(value) for value in values]


def test_without_a_label_column_there_is_one_class(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path), label_column="")
    assert (found.class_names, labels(found)) == (("saved",), [0] * 6)


def test_columns_and_splits_can_have_any_names(tmp_path: Path) -> None:
    renamed = rows(range(6)).rename_columns({"image": "photo", "label": "animal"})
    path = saved(tmp_path, fit=renamed, test=renamed.select(range(2)))
    keys = {"image_column": "photo", "label_column": "animal", "train_split": "fit", "val_split": "test"}
    assert len(loaded(path, **keys)) == 6
    assert len(loaded(path, "val", **keys)) == 2


@pytest.mark.parametrize("name", ["validation", "val"])
def test_held_out_images_are_found_under_their_usual_names(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, train=rows(range(6)), **{name: rows(range(6, 8), [2, 0])})
    assert np.array_equal(shown(loaded(path, "val")), np.stack([expected(noise(seed)) for seed in (6, 7)]))


def test_val_is_empty_without_held_out_images(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path, train=rows(range(6)), test=rows(range(6))), "val")
    assert (len(found), shown(found).shape, found.class_names) == (0, (0, 3, 16, 16), tuple(NAMES))


def test_labels_are_the_same_classes_in_both_splits(tmp_path: Path) -> None:
    text = datasets.Value("string")
    train, held_out = rows(range(2), ["cat", "dog"], text), rows(range(2, 5), ["dog", "ant", "cat"], text)
    found = loaded(saved(tmp_path, train=train, val=held_out), "val")
    assert found.class_names == ("cat", "dog")
    assert labels(found) == [1, 0]
    assert np.array_equal(shown(found), np.stack([expected(noise(seed)) for seed in (2, 4)]))


def test_a_dataset_without_splits_is_used_for_training(tmp_path: Path) -> None:
    rows(range(6)).save_to_disk(tmp_path / "saved")
    assert len(loaded(tmp_path / "saved")) == 6
    assert len(loaded(tmp_path / "saved", "val")) == 0


def test_a_folder_that_the_package_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    for place in ("train/cat/0.png", "train/dog/1.png", "test/dog/2.png"):
        (tmp_path / "pets" / place).parent.mkdir(parents=True, exist_ok=True)
        noise(int(place[-5])).save(tmp_path / "pets" / place)
    found = loaded(tmp_path / "pets", val_split="test")
    assert (found.class_names, labels(found)) == (("cat", "dog"), [0, 1])
    assert np.array_equal(shown(found), np.stack([expected(noise(seed)) for seed in (0, 1)]))


def test_the_keys_of_the_recipe_are_passed_to_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*arguments: Any, **keys: Any) -> datasets.DatasetDict:
        asked.append((arguments, keys))
        return datasets.DatasetDict(train=rows(range(6)))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(loaded("huggan/afhq", subset="small", revision="v1")) == 6
    assert asked == [(("huggan/afhq", "small"), {"revision": "v1"})]


@pytest.mark.parametrize("key", ["subset", "revision"])
def test_keys_without_effect_on_a_saved_dataset_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"data.{key} would have no effect: .* was written by save_to_disk"):
        loaded(saved(tmp_path), **{key: "other"})


def test_a_version_of_the_package_that_runs_code_of_datasets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(ComponentUnavailable, match=r"datasets 3.6.0 can run code"):
        loaded("huggan/afhq")
    assert len(loaded(saved(tmp_path))) == 6


@pytest.mark.parametrize(
    "error", [DatasetNotFoundError("Dataset 'a/b' doesn't exist\non the Hub"), ConnectionError("no network")]
)
def test_a_dataset_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: Any, **keys: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError) as caught:
        loaded("a/b")
    assert caught.value.message == f"the dataset 'a/b' cannot be loaded: {str(error).splitlines()[0]}"
    assert "save_to_disk" in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_broken_folder_is_named(tmp_path: Path, damage: str) -> None:
    path = saved(tmp_path)
    (arrow,) = (path / "train").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:500]) if damage == "cut" else arrow.unlink()
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        loaded(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_column": "imag"}, "data.image_column: the dataset has no column 'imag'"),
        ({"label_column": "lable"}, "data.label_column: the dataset has no column 'lable'"),
        ({"train_split": "trian"}, "data.train_split: the dataset has no split 'trian'"),
        ({"split": "val", "val_split": "tain"}, "data.val_split: the dataset has no split 'tain'"),
        ({"classes": ("cats",)}, "data.classes: the dataset has no class 'cats'"),
    ],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        loaded(saved(tmp_path), **keys)
    assert "did you mean" in str(caught.value)
    assert "available: " in str(caught.value)


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(InputError, match=r"column 'label' of .* contains .*, not images"):
        loaded(path, image_column="label")
    with pytest.raises(InputError, match=r"column 'image' of .* contains .*, not classes"):
        loaded(path, label_column="image")


@pytest.mark.parametrize(
    ("kind", "values"), [(None, [0, -1, 1, -1, 0, 0]), (datasets.Value("string"), ["a", None, "b", None, "a", "a"])]
)
def test_rows_without_a_label_are_counted(tmp_path: Path, kind: Any, values: list[Any]) -> None:
    path = saved(tmp_path, train=rows(range(6), values, kind))
    with pytest.raises(InputError, match=r"2 rows in column 'label' of .* have no label"):
        loaded(path)
    assert len(loaded(path, label_column="")) == 6


def test_training_on_a_class_without_images_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path, train=rows(range(2), [0, 0]))
    with pytest.raises(InputError, match="has no image of bee, dog"):
        loaded(path, classes=("bee", "dog"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "cannot identify"),
        (b"", "cannot identify"),
        (png(noise(0))[:900], "truncated"),
        (None, "it is empty"),
    ],
)
def test_a_row_that_is_not_an_image_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    contents = [png(noise(0))] * 4 + [content] + [png(noise(0))]
    path = saved(tmp_path, train=table(contents, LABELS))
    for classes in (None, ("dog",)):
        with pytest.raises(InputError, match="1 row is not an intact image") as caught:
            loaded(path, classes=classes)
        assert f"in column 'image' of split 'train' of {path}" in str(caught.value)
        assert re.search(f"row 4: .*({reason})", str(caught.value))
        assert 'data.on_bad_image = "skip"' in str(caught.value)
    assert len(loaded(path, classes=("cat",))) == 2


def test_bad_rows_can_be_skipped_and_are_named_at_every_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = [png(noise(seed)) for seed in range(6)]
    contents[1], contents[4] = b"<html>", contents[4][:900]
    path = saved(tmp_path, train=table(contents, LABELS))
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "ddpmkit_plugins"):
            found = loaded(path, on_bad_image="skip")
        assert np.array_equal(shown(found), np.stack([expected(noise(seed)) for seed in (0, 2, 3, 5)]))
        assert labels(found) == [LABELS[place] for place in (0, 2, 3, 5)]
        (line,) = caplog.messages
        assert "2 rows are not intact images" in line
        assert "row 1: " in line
        assert "row 4: " in line
    good_rows = saved(tmp_path, train=rows(range(6)).select([0, 2, 3, 5]))
    assert found.fingerprint == loaded(good_rows).fingerprint


def test_many_bad_rows_are_named_up_to_a_limit(tmp_path: Path) -> None:
    path = saved(tmp_path, train=table([b"<html>"] * 25 + [png(noise(0))], [0] * 26))
    with pytest.raises(InputError, match="25 rows are not intact images") as caught:
        loaded(path)
    assert str(caught.value).count("cannot identify") == 20
    assert "... and 5 more" in str(caught.value)
    assert len(loaded(path, on_bad_image="skip")) == 1


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("L", (24, 24), 77), 77),
        (Image.fromarray(np.full((24, 24), 0x8080, dtype=np.uint16)), 128),
        (Image.fromarray(np.full((24, 24), 0xFFFF, dtype=np.uint16)), 255),
        (Image.new("RGBA", (24, 24), (0, 0, 255, 0)), 255),
        (Image.new("LA", (24, 24), (0, 128)), 127),
        (Image.new("1", (24, 24), 1), 255),
    ],
    ids=["gray", "16 bits", "white of 16 bits", "clear", "half clear", "bilevel"],
)
def test_every_mode_is_decoded_as_a_viewer_shows_it(tmp_path: Path, image: Image.Image, value: int) -> None:
    found = shown(loaded(saved(tmp_path, train=table([png(image)], [0]))))
    assert np.abs(found.astype(int) - value).max() <= 1


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each decoded image."""
    count: list[int] = []

    def counted(*arguments: Any) -> Any:
        count.append(1)
        return decode_row(*arguments)

    monkeypatch.setattr(dataset, "decode_row", counted)
    return count


def test_a_second_start_uses_the_cached_images(tmp_path: Path, decodings: list[int]) -> None:
    path = saved(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    first = loaded(path, classes=("cat", "dog"))
    assert len(decodings) == 5
    again = loaded(path, classes=("cat", "dog"))
    assert len(decodings) == 5
    assert np.array_equal(shown(first), shown(again))
    assert first.fingerprint == again.fingerprint
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before  # nothing was written there


def test_the_cache_distinguishes_classes_and_shapes(tmp_path: Path) -> None:
    path = saved(tmp_path, train=rows(range(4), [0, 1, 0, 1]))
    for _ in range(2):
        for label, name in enumerate(("cat", "dog")):
            for shape in (SQUARE, ImageShape(3, 8, 32)):
                found = loaded(path, classes=(name,), shape=shape)
                assert np.array_equal(
                    shown(found), np.stack([expected(noise(seed), shape) for seed in (label, label + 2)])
                )


def test_a_dataset_in_memory_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    for first in (0, 6):
        found = datasets.DatasetDict(train=rows(range(first, first + 6)))
        monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, found=found, **keys: found)
        seeds = range(first, first + 6)
        assert np.array_equal(shown(loaded("a/b")), np.stack([expected(noise(seed)) for seed in seeds]))


Change = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (lambda path: [os.utime(file, (1, 1)) for file in path.rglob("*.arrow")], True),
        (lambda path: saved(path.parent, train=rows(range(6), LABELS)), True),
        (lambda path: saved(path.parent, train=rows(range(1, 7))), False),
        (lambda path: saved(path.parent, train=rows(range(6), LABELS[::-1])), False),
        (lambda path: saved(path.parent, train=rows(range(6)).select([1, 0, 2, 3, 4, 5])), False),
    ],
    ids=["touched", "written again", "other images", "other labels", "another order"],
)
def test_the_fingerprint_depends_on_the_content(tmp_path: Path, change: Change, is_same: bool) -> None:
    before = loaded(saved(tmp_path)).fingerprint
    change(tmp_path / "saved")
    assert (loaded(tmp_path / "saved").fingerprint == before) == is_same
    assert loaded(tmp_path / "saved", shape=ImageShape(3, 8, 32)).fingerprint != before


def cut(content: bytes) -> bytes:
    return content[:200]


def half_zeroed(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


@pytest.mark.parametrize("damage", [cut, half_zeroed, lambda content: b""])
def test_a_damaged_cache_is_decoded_again_with_one_warning(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture, decodings: list[int]
) -> None:
    path = saved(tmp_path)
    before = shown(loaded(path))
    (file,) = (tmp_path / "cache" / "huggingface").glob("*.npy")
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING, "ddpmkit"):
        assert np.array_equal(shown(loaded(path)), before)
        assert np.array_equal(shown(loaded(path)), before)
    (line,) = [found.getMessage() for found in caplog.records if found.name.startswith("ddpmkit")]
    assert str(file) in line
    assert len(decodings) == 12


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "file"))
    assert len(shown(loaded(saved(tmp_path)))) == 6
    assert "the next start decodes them again" in caplog.text


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free some space"),
        (OSError("Not enough disk space. Needed: 5 GB"), "free some space"),
        (OSError(errno.ENOLCK, "No locks available"), "HF_HOME"),
    ],
)
def test_a_disk_error_of_the_package_names_its_folder(
    monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    def fail(*arguments: Any, **keys: Any) -> None:
        try:
            raise error
        except OSError as cause:
            raise datasets.exceptions.DatasetGenerationError("An error occurred") from cause

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        loaded("a/b")
    assert remedy in str(caught.value)
    assert str(datasets.config.HF_DATASETS_CACHE) in str(caught.value)
    assert "HF_HOME" in str(caught.value)
    assert error.args[-1] in str(caught.value)


def test_a_full_disk_is_only_a_warning_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path)
    # There is no folder for temporary files either, as on a completely full disk.
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        found = loaded(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert np.array_equal(shown(found), np.stack([expected(noise(seed)) for seed in range(6)]))
    assert "the next start decodes them again" in caplog.text
    assert not list((tmp_path / "cache" / "huggingface").iterdir())
