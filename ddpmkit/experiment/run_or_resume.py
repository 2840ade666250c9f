"""Begin a run, or go on with it: the same call does both.

It does not know what happens between the first step and the last.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ddpmkit.atomic_io import atomic_write_bytes
from ddpmkit.checkpoint import Checkpoint, resumable_checkpoint
from ddpmkit.data.images import ImageSource
from ddpmkit.display import Display, SafeDisplay, SilentDisplay
from ddpmkit.errors import InputError
from ddpmkit.experiment.build import (
    BuiltMetric,
    Model,
    build_images,
    build_metrics,
    build_model,
    build_trackers,
    check_keep_best,
)
from ddpmkit.experiment.collected_errors import Gathering
from ddpmkit.experiment.failures import explaining
from ddpmkit.experiment.loaded_run import Run, check_alpha_bar, load
from ddpmkit.experiment.saving import check_space
from ddpmkit.experiment.session import Session
from ddpmkit.global_state import Around
from ddpmkit.interrupts import own_sigint_handler
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import (
    Provenance,
    Recipe,
    chosen_registry,
    current_provenance,
    differences,
    lock_text,
    read_lock,
    read_recipe,
)
from ddpmkit.run_folder import RunFolder
from ddpmkit.tracking import EventDispatcher

__all__ = ["default_folder", "run"]


def run(
    recipe: Recipe | Path | str | Mapping[str, Any],
    out: Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path | str] = (),
    registry: Registry | None = None,
    skip_unavailable_metrics: bool = False,
    accept_changes: bool = False,
    trust: bool = False,
    display: Display | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Train, sample and score by a recipe (a file, plain data, or a `Recipe`), in the folder `out`.

    A folder that holds a checkpoint of the same experiment is gone on with. `overrides` are `key=value` strings as for
    `--set`; components are those of whatever is installed and of the files `plugins`, as for `--plugin`, or of
    `registry` alone; `accept_changes` lets a run go on although its images, its loss or its training changed; `trust`
    is for a recipe that is the lock of somebody else's run, and lets it run the code that it names; `stop` is asked
    before every step. Raises InputError for what cannot be used or is in use, RunFailed for a run that broke off; what
    was written stays.
    """
    registry = chosen_registry(registry, plugins)
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides=overrides, registry=registry, trust=trust)
    elif overrides:
        raise InputError("overrides belong to a recipe that is read; this one has been read already.")
    display = SafeDisplay(display or SilentDisplay())
    folder = RunFolder(Path(out) if out is not None else default_folder(recipe))
    for note in recipe.notes:
        display.message(note)

    with own_sigint_handler(), explaining("preparing the run", recipe):
        model, metrics, images, held_out = _built(recipe, skip_unavailable_metrics, display.message)
        if len(held_out) == 0:
            display.message("there are no validation images: no validation loss")
        folder.create()
        with folder.exclusive():
            folder.incidents.keep(lambda _record: True)
            if (warning := check_space(folder.path, model.parameters, recipe.train)) is not None:
                display.message(warning)
            now = current_provenance(
                recipe,
                images.dataset.fingerprint,
                model.process.alpha_bar_fingerprint,
                held_out.dataset,
                model.runtime.arithmetic,
            )
            checkpoint = _checkpoint_to_resume(folder, model, now, registry, display, accept_changes)
            atomic_write_bytes(folder.lock, lock_text(recipe, now).encode())
            events = EventDispatcher(build_trackers(recipe, folder), display)
            session = Session(model, folder, images, held_out, metrics, events, display, stop)
            ended = session.run(checkpoint)
    return load(folder.path, registry=registry, trust=trust, ended=ended)


def _built(
    recipe: Recipe, skip_unavailable_metrics: bool, remark: Callable[[str], None]
) -> tuple[Model, list[BuiltMetric], ImageSource, ImageSource]:
    """The parts of a run; the images are those to train on and those held out.

    Raises InputError, after trying each: a person fixes everything at once.
    """
    gathering = Gathering()
    model, device = None, torch.device("cpu")
    around: Around = contextlib.nullcontext
    metrics: list[BuiltMetric] = []
    sources: list[ImageSource] = []
    with gathering.noting():
        model = build_model(recipe)
        device, around = model.runtime.device, model.around
    with gathering.noting():
        sources += [build_images(recipe, split, around) for split in ("train", "val")]
    with gathering.noting():
        metrics = build_metrics(recipe, device, skip_unavailable=skip_unavailable_metrics, remark=remark, around=around)
        check_keep_best(recipe, metrics, remark)
    for part in recipe.trackers:
        with gathering.noting():
            if (error := part.component.missing_code()) is not None:
                raise error
    gathering.raise_all()
    assert model is not None
    images, held_out = sources
    return model, metrics, images, held_out


def default_folder(recipe: Recipe) -> Path:
    """`results/<name>` below the current folder."""
    return Path("results") / recipe.name


def _checkpoint_to_resume(
    folder: RunFolder,
    model: Model,
    now: Provenance,
    registry: Registry | None,
    display: Display,
    accept_changes: bool,
) -> Checkpoint | None:
    """The newest checkpoint, once it is sure that it belongs to this experiment.

    Raises InputError where recipe, data or the schedule's code changed so that the weights would no longer be what the
    recipe says.
    """
    checkpoint = resumable_checkpoint(folder.checkpoints)
    if checkpoint is None:
        return None
    recipe, before = model.recipe, read_lock(checkpoint.lock, registry)
    changes = differences(before.recipe.as_data(), recipe.as_data())
    other_images = before.provenance.dataset_fingerprint != now.dataset_fingerprint
    elsewhere = ["--out DIR starts another run", f"remove {folder.path} to start over"]
    accepting = ["--accept-changes goes on all the same, and writes down that it did"]
    if refused := [
        change for change in changes if change.affects_model and not (accept_changes and change.is_acceptable)
    ]:
        raise InputError(
            f"{folder.path} holds a run by another recipe, at step {checkpoint.step}:\n"
            + "\n".join(f"    {change}" for change in refused),
            remedies=[
                *elsewhere,
                "put the recipe back as it was to go on with it",
                *(accepting if all(change.is_acceptable for change in refused) else []),
            ],
        )
    if other_images and not accept_changes:
        raise InputError(
            f"the training images are not those that {folder.path} was trained on.", remedies=[*elsewhere, *accepting]
        )
    check_alpha_bar(model, before.provenance, checkpoint)
    if checkpoint.step > recipe.train.steps:
        raise InputError(
            f"{folder.path} is at step {checkpoint.step} already; train.steps = {recipe.train.steps} lies behind it.",
            remedies=elsewhere,
        )
    other_validation = before.provenance.validation_change(now)
    noted = [
        *map(str, changes),
        *(["the training images"] if other_images else []),
        # They do not change the weights, so the run goes on; its validation losses are another series from here on.
        *([other_validation] if other_validation is not None else []),
    ]
    for change in noted:
        display.message(f"changed since the last start: {change}")
    versions = list(before.provenance.version_changes(now, [part.component.plugin for part in recipe.parts]))
    for change in versions:
        display.message(
            f"warning: another version than at the last checkpoint: {change}; the run goes on, but its weights and "
            "pictures need no longer be, bit for bit, those that it would have had"
        )
    rounding = list(before.provenance.arithmetic_changes(now))
    for change in rounding:
        exactly = "; OMP_NUM_THREADS in the environment sets the threads" if change.startswith("threads") else ""
        display.message(
            f"warning: not as at the last checkpoint: {change}; sums are rounded differently. The run continues, but "
            f"its weights and images are no longer, bit for bit, those that it would have had{exactly}"
        )
    if noted or versions or rounding:
        folder.incidents.append("changed", {"step": checkpoint.step, "changes": [*noted, *versions, *rounding]})
    display.message(f"going on from {checkpoint.path}")
    return checkpoint
