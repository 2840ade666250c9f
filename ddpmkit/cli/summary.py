"""The summary after a run: its result, its files, and the next commands."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddpmkit.cli.run_status import RunStatus, format_duration
from ddpmkit.cli.terminal import aligned
from ddpmkit.contracts import RunEnded, RunStarted
from ddpmkit.plural import counted
from ddpmkit.run_folder import RunFolder

__all__ = ["summary"]


def summary(status: RunStatus, plugin_options: Sequence[str] = ()) -> Iterator[str]:
    """Yield lines to print; none if the run never started. `plugin_options`: `--plugin` options that the run needs."""
    started, ended = status.started, status.ended
    if started is None or ended is None:
        return
    folder = RunFolder(started.folder)
    yield f"{_headline(status, started, ended)}; everything is in {folder.path}:"
    yield from aligned([*_paths(folder, ended.step), *_numbers(status), *(("failed", text) for text in ended.problems)])
    if ended.status == "finished":
        yield "next:"
        yield f"  {shlex.join(['ddpmkit', 'sample', str(folder.path), '-n', '64', *plugin_options])}"
        if started.evaluations:
            skipping = ["--skip-unavailable-metrics"] if started.skipped_metrics else []
            yield f"  {shlex.join(['ddpmkit', 'evaluate', str(folder.path), *skipping, *plugin_options])}"
    elif (checkpoint := _last_checkpoint(folder)) is not None:
        yield f"next: the same command resumes from {checkpoint}"
    else:
        yield "next: the same command starts again; there is no checkpoint yet"


def _headline(status: RunStatus, started: RunStarted, ended: RunEnded) -> str:
    if ended.status != "finished":
        return f"{ended.status} at step {ended.step:,} of {started.last_step:,}"
    if status.complete_already:
        return f"already complete: all {started.last_step:,} steps were done before"
    steps = counted(started.last_step - started.first_step, "more step" if started.first_step else "step")
    return f"finished: {steps} in {format_duration(status.seconds)}"


def _paths(folder: RunFolder, step: int) -> Iterator[tuple[str, str]]:
    """Label and path of each file and folder that exists."""
    paths = {
        "samples": folder.samples(step),
        "forward process": folder.visualization("forward"),
        "reverse process": folder.visualization("backward"),
        "report": folder.report,
        "log": folder.metrics,
        "checkpoints": folder.checkpoints,
    }
    for name, path in paths.items():
        if path.exists():
            yield name, str(path)


def _numbers(status: RunStatus) -> Iterator[tuple[str, str]]:
    if status.record is not None:
        yield "loss", f"{status.record.loss:.4f}"
    if status.validation_loss is not None:
        yield "validation loss", f"{status.validation_loss:.4f}"
    yield from status.last_scores.items()


def _last_checkpoint(folder: RunFolder) -> Path | None:
    from ddpmkit.checkpoint import checkpoint_folders

    found: list[Path] = checkpoint_folders(folder.checkpoints)
    return found[0] if found else None
