"""`run`: starts a run, or resumes it if its folder has a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpmkit.atomic_io import atomic_write_bytes
from ddpmkit.display import Display, SafeDisplay, SilentDisplay
from ddpmkit.errors import InputError
from ddpmkit.experiment.build import build_run, build_trackers
from ddpmkit.experiment.failures import explain_failures
from ddpmkit.experiment.loaded_run import Run
from ddpmkit.experiment.loading import load
from ddpmkit.experiment.resume import checkpoint_to_resume
from ddpmkit.experiment.retention import check_space
from ddpmkit.experiment.session import Session
from ddpmkit.interrupts import own_sigint_handler
from ddpmkit.plugin.registry import Registry
from ddpmkit.randomness import RANDOMNESS_VERSION
from ddpmkit.recipe import Recipe, chosen_registry, current_provenance, lock_text, read_recipe
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
    """Train, sample and evaluate as a recipe (a file, plain data, or a `Recipe`) defines, in the folder `out`.

    If the folder has a checkpoint of the same recipe, the run continues from it.

    `overrides` are `key=value` strings as for `--set`. Components are those of all installed plugins and of the files
    `plugins`, as for `--plugin`; or those of `registry` alone. With `accept_changes`, a run is resumed even if its
    images, `[loss]` or `[train]` have changed. With `trust`, a recipe that is the lock file of another user's run may
    run the code that it names. `stop` is called before every training step; the run stops if it returns True.

    Raises InputError if an input is invalid or another process uses the folder, RunFailed if the run fails. Files that
    were already written are kept.
    """
    registry = chosen_registry(registry, plugins)
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides=overrides, registry=registry, trust=trust)
    elif overrides:
        raise InputError("overrides apply when a recipe is read; this recipe has been read already.")
    display = SafeDisplay(display or SilentDisplay())
    folder = RunFolder(Path(out) if out is not None else default_folder(recipe))
    for note in recipe.notes:
        display.message(note)

    with own_sigint_handler(), explain_failures("preparing the run", recipe):
        parts = build_run(recipe, skip_unavailable_metrics=skip_unavailable_metrics, message=display.message)
        if len(parts.validation_images) == 0:
            display.message("there are no validation images: no validation loss")
        folder.create()
        with folder.exclusive():
            folder.incidents.keep(lambda _record: True)
            if (warning := check_space(folder.path, parts.model.parameters, recipe.train)) is not None:
                display.message(warning)
            provenance = current_provenance(
                recipe,
                parts.images.dataset.fingerprint,
                parts.model.process.alpha_bar_fingerprint,
                parts.validation_images.dataset,
                parts.model.runtime.arithmetic,
                RANDOMNESS_VERSION,
            )
            checkpoint = checkpoint_to_resume(
                folder, parts.model, provenance, registry, display, accept_changes=accept_changes
            )
            atomic_write_bytes(folder.lock, lock_text(recipe, provenance).encode())
            events = EventDispatcher(build_trackers(recipe, folder), display)
            ended = Session(parts, folder, events, display, stop).run(checkpoint)
    return load(folder.path, registry=registry, trust=trust, ended=ended)


def default_folder(recipe: Recipe) -> Path:
    """Return `results/<name>` in the current folder."""
    return Path("results") / recipe.name
