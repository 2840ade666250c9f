"""Loads a dataset of the package `datasets`: the rows of one split, and their classes."""

import difflib
import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray

from ddpmkit.plugin import ComponentUnavailable, InputError
from ddpmkit_plugins.huggingface import HuggingFaceConfig

_HELD_OUT = ("validation", "val")
_FIRST_WITHOUT_CODE = 4
"""The first version of the package that never runs code from a dataset."""
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Rows(NamedTuple):
    """The rows of one split, in order."""

    dataset: datasets.Dataset
    """Only these rows."""
    split: str
    indices: list[int]
    """Their indices in the split."""
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    """The index of the class of each row."""


def load_rows(config: HuggingFaceConfig, split: str, classes: Sequence[str] | None) -> Rows:
    """The rows of `classes` (None: all) in "train" or "val"; "val" may be empty.

    Both splits use the classes of the training split, so that a label is the same class in both. Raises InputError if
    loading fails, for missing splits, columns and classes, and for rows without a label.
    """
    splits = _load(config)
    training = splits[_checked_name("split", config.train_split, list(splits), "data.train_split")]
    known, training_labels = _classes(training, config)
    names = known if classes is None else tuple(_checked_name("class", name, known, "data.classes") for name in classes)
    if split == "train":
        found, chosen, labels = config.train_split, training, training_labels
    elif held_out := _held_out(config, splits):
        found, chosen = held_out, splits[held_out]
        _, labels = _classes(chosen, config)
    else:
        found, chosen, labels = _HELD_OUT[0], training.select([]), []
    label_of = {name: label for label, name in enumerate(names)}
    indices = [index for index, name in enumerate(labels) if name in label_of]
    if split == "train" and not indices:
        raise InputError(f"split {found!r} of {config.path} has no image of {', '.join(names) or 'any class'}.")
    if len(indices) < len(chosen):
        chosen = chosen.select(indices)
    chosen_labels = np.array([label_of[labels[index]] for index in indices], dtype=np.int64)
    return Rows(chosen, found, indices, names, chosen_labels)


def _load(config: HuggingFaceConfig) -> Mapping[str, datasets.Dataset]:
    folder = Path(config.path).expanduser()
    is_saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    unused = [f"data.{name}" for name in ("subset", "revision") if getattr(config, name) is not None]
    if is_saved and unused:
        raise InputError(
            f"{' and '.join(unused)} would have no effect: {folder} was written by save_to_disk and contains one "
            "version of one dataset.",
            remedies=[f"remove {' and '.join(unused)}", "set data.path to use another dataset"],
        )
    if not is_saved and int(datasets.__version__.partition(".")[0]) < _FIRST_WITHOUT_CODE:
        raise ComponentUnavailable(
            f"datasets {datasets.__version__} can run code from a dataset; version {_FIRST_WITHOUT_CODE} never does.",
            remedies=[f"pip install --upgrade 'datasets>={_FIRST_WITHOUT_CODE}'"],
        )
    try:
        if is_saved:
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(config.path, config.subset, revision=config.revision)
    except Exception as error:
        # The package raises many exceptions for failures of the Hub, the network, the disk and files.
        raise _not_loaded(config, error) from error
    return loaded if isinstance(loaded, dict) else {config.train_split: loaded}


def _not_loaded(config: HuggingFaceConfig, error: Exception) -> InputError:
    """The error for a dataset that cannot be loaded, with remedies that depend on the cause."""
    folder = datasets.config.HF_DATASETS_CACHE
    remedies = [
        "data.path is a name on https://huggingface.co/datasets, or a folder written by save_to_disk",
        "for a private dataset: `huggingface-cli login`; for one with several configurations: data.subset",
    ]
    reason = _first_line(error)
    for cause in _causes(error):
        is_full = isinstance(cause, OSError) and cause.errno in _DISK_IS_FULL
        if is_full or "disk space" in str(cause):
            remedies = [
                f"free some space: the package datasets stores its files in {folder}",
                "set HF_HOME=DIR in the environment to use another folder",
            ]
        elif isinstance(cause, OSError) and cause.errno in _NO_LOCKS:
            remedies = [f"set HF_HOME=DIR in the environment to a folder that supports locks: {folder} does not"]
        else:
            continue
        reason = _first_line(cause)
    return InputError(f"the dataset {config.path!r} cannot be loaded: {reason}", remedies=remedies)


def _causes(error: BaseException) -> list[BaseException]:
    """The exception, its cause or context, and theirs."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _held_out(config: HuggingFaceConfig, splits: Mapping[str, datasets.Dataset]) -> str | None:
    if config.val_split is not None:
        return _checked_name("split", config.val_split, list(splits), "data.val_split")
    return next((name for name in _HELD_OUT if name in splits), None)


def _classes(dataset: datasets.Dataset, config: HuggingFaceConfig) -> tuple[tuple[str, ...], list[str]]:
    """All class names in order, and the class name of each row."""
    image = _checked_name("column", config.image_column, dataset.column_names, "data.image_column")
    if not isinstance(dataset.features[image], datasets.Image):
        raise InputError(
            f"column {image!r} of {config.path} contains {dataset.features[image]}, not images.",
            remedies=[
                "set data.image_column to another column",
                "convert it with `cast_column(name, datasets.Image())`",
            ],
        )
    if not config.label_column:
        name = Path(config.path).name
        return (name,), [name] * len(dataset)
    column = _checked_name("column", config.label_column, dataset.column_names, "data.label_column")
    feature, values = dataset.features[column], dataset.select_columns([column])[:][column]
    named = isinstance(feature, datasets.ClassLabel)
    # In datasets of the Hub, -1 means that the label is not published.
    if lost := sum(value is None or (named and value < 0) for value in values):
        raise InputError(
            f"{lost} rows in column {column!r} of {config.path} have no label.",
            remedies=['set data.label_column = "" to give all images one class', "use another split"],
        )
    if named:
        return tuple(feature.names), [feature.names[value] for value in values]
    if not isinstance(feature, datasets.Value):
        raise InputError(f"column {column!r} of {config.path} contains {feature}, not classes.")
    return tuple(str(value) for value in sorted(set(values))), [str(value) for value in values]


def _checked_name(what: str, name: str, present: Sequence[str], key: str) -> str:
    """`name`, if it is in `present`. Raises InputError, which names the recipe key, otherwise."""
    if name in present:
        return name
    close = difflib.get_close_matches(name, present, n=1)
    guess = [f"did you mean {close[0]!r}?"] if close else []
    raise InputError(
        f"{key}: the dataset has no {what} {name!r}.",
        remedies=[*guess, f"available: {', '.join(present) or 'none'}"],
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
