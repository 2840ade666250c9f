"""From a name to rows and their classes."""

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
"""The first version of the package that never runs code that comes with a dataset."""
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Rows(NamedTuple):
    """Pictures of one split, in the order of their rows."""

    dataset: datasets.Dataset
    """These rows alone."""
    split: str
    places: list[int]
    """Where the rows are in the split."""
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    """For each row, which of the classes it is of."""


def load_rows(config: HuggingFaceConfig, split: str, classes: Sequence[str] | None) -> Rows:
    """The rows of `classes` (None: all) in "train" or "val"; the latter may be empty.

    The classes are those of the training split in both, so that a label means the same in both. Raises InputError for
    what cannot be loaded, for splits, columns and classes that are not there, and for rows without a label.
    """
    splits = _load(config)
    training = splits[_known("split", config.train_split, list(splits), "data.train_split")]
    known, training_labels = _classes(training, config)
    names = known if classes is None else tuple(_known("class", name, known, "data.classes") for name in classes)
    if split == "train":
        found, chosen, labels = config.train_split, training, training_labels
    elif held_out := _held_out(config, splits):
        found, chosen = held_out, splits[held_out]
        _, labels = _classes(chosen, config)
    else:
        found, chosen, labels = _HELD_OUT[0], training.select([]), []
    index = {name: label for label, name in enumerate(names)}
    places = [place for place, name in enumerate(labels) if name in index]
    if split == "train" and not places:
        raise InputError(f"split {found!r} of {config.path} holds no picture of {', '.join(names) or 'any class'}.")
    if len(places) < len(chosen):
        chosen = chosen.select(places)
    return Rows(chosen, found, places, names, np.array([index[labels[place]] for place in places], dtype=np.int64))


def _load(config: HuggingFaceConfig) -> Mapping[str, datasets.Dataset]:
    folder = Path(config.path).expanduser()
    is_saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    unused = [f"data.{name}" for name in ("subset", "revision") if getattr(config, name) is not None]
    if is_saved and unused:
        raise InputError(
            f"{' and '.join(unused)} would have no effect: {folder} was written by save_to_disk, as one version of one "
            "dataset.",
            remedies=[f"remove {' and '.join(unused)}", "data.path names another dataset"],
        )
    if not is_saved and int(datasets.__version__.partition(".")[0]) < _FIRST_WITHOUT_CODE:
        raise ComponentUnavailable(
            f"datasets {datasets.__version__} can run code that comes with a dataset.",
            remedies=[f"pip install --upgrade 'datasets>={_FIRST_WITHOUT_CODE}'"],
        )
    try:
        if is_saved:
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(config.path, config.subset, revision=config.revision)
    except Exception as error:
        # There is an exception for every way in which a hub, a network, a disk or a file fails.
        raise _not_loaded(config, error) from error
    return loaded if isinstance(loaded, dict) else {config.train_split: loaded}


def _not_loaded(config: HuggingFaceConfig, error: Exception) -> InputError:
    """What to do depends on the cause: the package `datasets` keeps what it prepares in a folder of its own."""
    folder = datasets.config.HF_DATASETS_CACHE
    remedies = [
        "data.path is a name on https://huggingface.co/datasets, or a folder that save_to_disk wrote",
        "`huggingface-cli login`  for a dataset that is not public; data.subset for one that has several",
    ]
    reason = _first_line(error)
    for cause in _causes(error):
        is_full = isinstance(cause, OSError) and cause.errno in _DISK_IS_FULL
        if is_full or "disk space" in str(cause):
            remedies = [
                f"free some space: the package datasets keeps its files in {folder}",
                "HF_HOME=DIR in the environment names another folder for them",
            ]
        elif isinstance(cause, OSError) and cause.errno in _NO_LOCKS:
            remedies = [f"HF_HOME=DIR in the environment names a folder that supports locks, which {folder} does not"]
        else:
            continue
        reason = _first_line(cause)
    return InputError(f"the dataset {config.path!r} cannot be loaded: {reason}", remedies=remedies)


def _causes(error: BaseException) -> list[BaseException]:
    """The exception itself, and what it was raised because of, or while handling."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _held_out(config: HuggingFaceConfig, splits: Mapping[str, datasets.Dataset]) -> str | None:
    if config.val_split is not None:
        return _known("split", config.val_split, list(splits), "data.val_split")
    return next((name for name in _HELD_OUT if name in splits), None)


def _classes(dataset: datasets.Dataset, config: HuggingFaceConfig) -> tuple[tuple[str, ...], list[str]]:
    """All class names in order, and the one of each row."""
    image = _known("column", config.image_column, dataset.column_names, "data.image_column")
    if not isinstance(dataset.features[image], datasets.Image):
        raise InputError(
            f"column {image!r} of {config.path} holds no pictures but {dataset.features[image]}.",
            remedies=["data.image_column names another one", "`cast_column(name, datasets.Image())` makes it one"],
        )
    if not config.label_column:
        name = Path(config.path).name
        return (name,), [name] * len(dataset)
    column = _known("column", config.label_column, dataset.column_names, "data.label_column")
    feature, values = dataset.features[column], dataset.select_columns([column])[:][column]
    named = isinstance(feature, datasets.ClassLabel)
    # In the datasets of the hub, -1 stands for a label that is not published.
    if lost := sum(value is None or (named and value < 0) for value in values):
        raise InputError(
            f"{lost} rows in column {column!r} of {config.path} have no label.",
            remedies=['data.label_column = ""  makes all pictures one class', "use another split"],
        )
    if named:
        return tuple(feature.names), [feature.names[value] for value in values]
    if not isinstance(feature, datasets.Value):
        raise InputError(f"column {column!r} of {config.path} holds no classes but {feature}.")
    return tuple(str(value) for value in sorted(set(values))), [str(value) for value in values]


def _known(what: str, name: str, present: Sequence[str], key: str) -> str:
    """`name` itself, when it is there."""
    if name in present:
        return name
    close = difflib.get_close_matches(name, present, n=1)
    guess = [f"did you mean {close[0]!r}?"] if close else []
    raise InputError(
        f"the dataset has no {what} {name!r}, which {key} names.",
        remedies=[*guess, f"there: {', '.join(present) or 'none'}"],
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
