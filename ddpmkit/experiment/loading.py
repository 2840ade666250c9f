"""Opens a run folder or a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from ddpmkit.checkpoint import newest_checkpoint, open_checkpoint
from ddpmkit.contracts import RunEnded
from ddpmkit.experiment.loaded_run import Run
from ddpmkit.experiment.model import build_model
from ddpmkit.experiment.overrides import OpenedFor, apply_overrides
from ddpmkit.experiment.resume import check_alpha_bar
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import chosen_registry, read_lock
from ddpmkit.run_folder import RunFolder, not_a_run

__all__ = ["load"]


def load(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path | str] = (),
    registry: Registry | None = None,
    trust: bool = False,
    purpose: OpenedFor | None = None,
    device: str | None = None,
    ended: RunEnded | None = None,
) -> Run:
    """Open a run folder at its newest checkpoint, or one checkpoint folder.

    `overrides` are `key=value` strings as for `--set`. They may change only keys that the weights do not depend on,
    such as `sampler.use=ddim`. Keys that `purpose` does not use are rejected. Components are those of all installed
    plugins and of the files `plugins`, as for `--plugin`; or those of `registry` alone. If the run is from another
    user, code that its recipe names, such as the extractor of a metric, runs only with `trust=True`.

    Raises InputError if `path` contains no checkpoint, or a damaged one. If `path` is a checkpoint folder, no other
    checkpoint is opened instead.
    """
    path, registry = Path(path), chosen_registry(registry, plugins)
    if (path / "manifest.json").exists():
        folder, checkpoint = RunFolder(path.parent.parent), open_checkpoint(path, load=True)
    else:
        folder, newest = RunFolder(path), newest_checkpoint(path / "checkpoints")
        if newest is None:
            raise not_a_run(path, f"contains no checkpoint (looked in {(path / 'checkpoints').absolute()})")
        checkpoint = newest
    lock = read_lock(checkpoint.lock, registry, content=checkpoint.lock_content, trust=trust)
    recipe = apply_overrides(lock.recipe, checkpoint, overrides, registry=registry, trust=trust, purpose=purpose)
    model = build_model(recipe, device)
    check_alpha_bar(model, lock.provenance, checkpoint)
    return Run(folder, checkpoint, recipe, model, ended)
