"""Finds the checkpoint to resume from, and refuses to resume if the recipe, the images or the schedule have changed.

The rule for the recipe is `Change.affects_model` in `ddpmkit.recipe.diff`.
"""

from collections.abc import Sequence

from ddpmkit.checkpoint import Checkpoint, resumable_checkpoint
from ddpmkit.display import Display
from ddpmkit.errors import InputError
from ddpmkit.experiment.model import Model
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Provenance, differences, read_lock
from ddpmkit.run_folder import RunFolder

__all__ = ["check_alpha_bar", "checkpoint_to_resume"]


def checkpoint_to_resume(
    folder: RunFolder,
    model: Model,
    current: Provenance,
    registry: Registry | None,
    display: Display,
    *,
    accept_changes: bool,
) -> Checkpoint | None:
    """Return the newest intact checkpoint; None if there is no checkpoint.

    Shows what has changed since the last checkpoint. Refuses to resume, with InputError, if the recipe, the training
    images or the schedule's code have changed so that the weights would no longer be those that the recipe defines.
    """
    checkpoint = resumable_checkpoint(folder.checkpoints)
    if checkpoint is None:
        return None
    recipe, lock = model.recipe, read_lock(checkpoint.lock, registry)
    changes = differences(lock.recipe.as_data(), recipe.as_data())
    new_run = ["use --out DIR to start another run", f"remove {folder.path} to start over"]
    accept = ["add --accept-changes to continue anyway and record the change"]
    if refused := [
        change for change in changes if change.affects_model and not (accept_changes and change.is_acceptable)
    ]:
        raise InputError(
            f"{folder.path} contains a run with another recipe, at step {checkpoint.step}:\n"
            + "\n".join(f"    {change}" for change in refused),
            remedies=[
                *new_run,
                "restore the recipe to resume this run",
                *(accept if all(change.is_acceptable for change in refused) else []),
            ],
        )
    other_images = lock.provenance.dataset_fingerprint != current.dataset_fingerprint
    if other_images and not accept_changes:
        raise InputError(
            f"the training images differ from those that {folder.path} was trained on.", remedies=[*new_run, *accept]
        )
    check_alpha_bar(model, lock.provenance, checkpoint)
    if checkpoint.step > recipe.train.steps:
        raise InputError(
            f"train.steps = {recipe.train.steps} is lower than the step already reached: {folder.path} is at step "
            f"{checkpoint.step}.",
            remedies=new_run,
        )
    if lock.provenance.randomness != current.randomness and checkpoint.step < recipe.train.steps:
        raise InputError(
            f"{folder.path} was trained by another version of ddpmkit, in which train.seed = {recipe.train.seed} means "
            f"other random numbers (version {lock.provenance.randomness} then, {current.randomness} now). The next "
            "steps would not be those of this run. Its weights can still be sampled and evaluated.",
            remedies=[*new_run, "use the version that the run was made with to finish it"],
        )
    # Other validation images do not change the weights. From here on, the validation losses cannot be compared with the
    # earlier ones.
    other_validation = lock.provenance.validation_change(current)
    noted = [
        *map(str, changes),
        *(["the training images"] if other_images else []),
        *([other_validation] if other_validation is not None else []),
    ]
    versions = list(lock.provenance.version_changes(current, [part.component.plugin for part in recipe.parts]))
    arithmetic = list(lock.provenance.arithmetic_changes(current))
    _show_changes(display, noted, versions, arithmetic)
    if noted or versions or arithmetic:
        folder.incidents.append("changed", {"step": checkpoint.step, "changes": [*noted, *versions, *arithmetic]})
    display.message(f"resuming from {checkpoint.path}")
    return checkpoint


def check_alpha_bar(model: Model, provenance: Provenance, checkpoint: Checkpoint) -> None:
    """Raise InputError if alpha_bar differs from the alpha_bar that the run was trained with.

    The schedule's code has changed then. The recipe does not show this change, and the weights are useless with another
    alpha_bar.
    """
    if provenance.alpha_bar_fingerprint in (None, model.process.alpha_bar_fingerprint):
        return
    schedule = model.recipe.schedule.component
    raise InputError(
        f"{checkpoint.path} was trained with another alpha_bar than schedule {schedule.use!r} ({schedule.origin}) "
        "returns now for the same recipe: the schedule's code has changed.",
        remedies=[
            "run `ddpmkit run RECIPE --out DIR` to start another run",
            *provenance.restore_hints(schedule.plugin),
        ],
    )


def _show_changes(display: Display, noted: Sequence[str], versions: Sequence[str], arithmetic: Sequence[str]) -> None:
    for change in noted:
        display.message(f"changed since the last checkpoint: {change}")
    for change in versions:
        display.message(
            f"warning: another version than at the last checkpoint: {change}; the run continues, but its weights and "
            "images may differ from those of an uninterrupted run"
        )
    for change in arithmetic:
        hint = "; OMP_NUM_THREADS in the environment sets the threads" if change.startswith("threads") else ""
        display.message(
            f"warning: not as at the last checkpoint: {change}; sums are rounded differently. The run continues, but "
            f"its weights and images are no longer, bit for bit, those of an uninterrupted run{hint}"
        )
