"""Builds the parts of a run from a recipe: model, metrics, images and trackers.

The model and the metrics are built in `model` and `metrics`.
"""

import contextlib
import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ddpmkit.contracts import Dataset
from ddpmkit.data.images import ImageSource
from ddpmkit.errors import ContractError, InputError, PluginError
from ddpmkit.experiment.collected_errors import ErrorCollector
from ddpmkit.experiment.failures import explain_failures
from ddpmkit.experiment.metrics import BuiltMetric, build_metrics, check_keep_best
from ddpmkit.experiment.model import Model, build_model
from ddpmkit.global_state import Guard
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.recipe import Recipe
from ddpmkit.run_folder import RunFolder
from ddpmkit.tracking import TrackerThread

__all__ = ["RunParts", "build_images", "build_run", "build_trackers"]


@dataclass(frozen=True)
class RunParts:
    """The parts of a run, built before anything is written."""

    model: Model
    metrics: list[BuiltMetric]
    images: ImageSource
    """Training images."""
    validation_images: ImageSource
    """Validation images; empty if the dataset has no split "val"."""


def build_run(recipe: Recipe, *, skip_unavailable_metrics: bool, message: Callable[[str], None]) -> RunParts:
    """Build all parts of a run except its trackers, and check that the trackers' code is installed.

    Raises InputError with the errors of all parts, so that the user sees all of them at once.
    """
    errors = ErrorCollector()
    model, device = None, torch.device("cpu")
    guard: Guard = contextlib.nullcontext
    metrics: list[BuiltMetric] = []
    sources: list[ImageSource] = []
    with errors.collecting():
        model = build_model(recipe)
        device, guard = model.runtime.device, model.guard
    with errors.collecting():
        sources += [build_images(recipe, split, guard) for split in ("train", "val")]
    with errors.collecting():
        metrics = build_metrics(recipe, device, skip_unavailable=skip_unavailable_metrics, message=message, guard=guard)
        check_keep_best(recipe, metrics, message)
    for part in recipe.trackers:
        with errors.collecting():
            if (error := part.component.missing_code()) is not None:
                raise error
    errors.raise_collected()
    assert model is not None
    return RunParts(model, metrics, *sources)


def build_images(recipe: Recipe, split: str, guard: Guard = contextlib.nullcontext) -> ImageSource:
    """Return the images of a split ("train" or "val"). Raises InputError if there are no training images.

    Each call of the dataset runs inside `guard("dataset")`.
    """
    data = recipe.data.settings
    classes = None if data.classes == "all" else data.classes
    with explain_failures(f"opening the images of {split}", recipe), guard("dataset"):
        dataset: Dataset = recipe.data.build(split=split, classes=classes, image_shape=data.decoded_shape)
        count = _length(dataset)
        if count:
            _check_dataset(dataset, data.num_classes)
    if split == "train" and count == 0:
        raise InputError(f"the dataset {recipe.data.component.use!r} has no training images.")
    return ImageSource(dataset, data.image_shape, seed=recipe.train.seed, flip=data.flip, guard=guard)


def _length(dataset: Dataset) -> int:
    """Return `len(dataset)`. Raises ContractError if it is not an integer of 0 or more."""
    if not hasattr(type(dataset), "__len__"):
        raise ContractError("dataset", "it has no __len__")
    length: Any = type(dataset).__len__(dataset)
    if not hasattr(length, "__index__") or length < 0:
        raise ContractError("dataset", f"its length must be an integer of 0 or more, not {length!a}")
    return operator.index(length)


def _check_dataset(dataset: Dataset, num_classes: int) -> None:
    """Raise ContractError unless a lock file can store the fingerprint, and the network's classes all have names."""
    fingerprint, names = getattr(dataset, "fingerprint", None), getattr(dataset, "class_names", None)
    if not isinstance(fingerprint, str) or not fingerprint or not fingerprint.isprintable():
        raise ContractError("dataset", f"its fingerprint must be a text of printable characters, not {fingerprint!a}")
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ContractError("dataset", f"its class_names must be a tuple of names, not {names!a}")
    if num_classes and len(names) != num_classes:
        raise ContractError("dataset", f"it must have the {num_classes} requested classes, not {len(names)}")


def build_trackers(recipe: Recipe, folder: RunFolder) -> list[TrackerThread]:
    """Return the recipe's trackers, each in its thread. Raises PluginError for a tracker that fails or hangs."""
    trackers = []
    for part in recipe.trackers:
        build = functools.partial(part.build, run_folder=folder.path)
        try:
            trackers.append(TrackerThread(part.component.use, build))
        except TimeoutError as error:
            component = part.component
            raise PluginError(
                f"tracker {component.use!r} ({component.origin}) hangs when it is built: {error}.",
                remedies=[fix_hint(component.plugin, component.component.target), "remove the tracker"],
            ) from error
    return trackers
