"""The last words of a run: how it went, what it left, what to try next.

It does not know how the run was made.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddpmkit.cli.run_status import RunStatus, in_clock_time
from ddpmkit.cli.terminal import aligned
from ddpmkit.contracts import RunEnded, RunStarted
from ddpmkit.plural import counted
from ddpmkit.run_folder import RunFolder

__all__ = ["summary"]


def summary(standing: RunStatus, plugin_options: Sequence[str] = ()) -> Iterator[str]:
    """Lines to print; none for a run that never began. `plugin_options` are those without which nothing can use it."""
    started, ended = standing.started, standing.ended
    if started is None or ended is None:
        return
    folder = RunFolder(started.folder)
    yield f"{_headline(standing, started, ended)}; everything is in {folder.path}:"
    yield from aligned(
        [*_places(folder, ended.step), *_numbers(standing), *(("failed", text) for text in ended.problems)]
    )
    if ended.status == "finished":
        yield "next:"
        yield f"  {shlex.join(['ddpmkit', 'sample', str(folder.path), '-n', '64', *plugin_options])}"
        if started.evaluations:
            skipping = ["--skip-unavailable-metrics"] if started.skipped_metrics else []
            yield f"  {shlex.join(['ddpmkit', 'evaluate', str(folder.path), *skipping, *plugin_options])}"
    else:
        yield f"next: the same command goes on from {_last_checkpoint(folder)}"


def _headline(standing: RunStatus, started: RunStarted, ended: RunEnded) -> str:
    if ended.status != "finished":
        return f"{ended.status} at step {ended.step:,} of {started.last_step:,}"
    if standing.complete_already:
        return f"complete already: all {started.last_step:,} steps were done before"
    steps = counted(started.last_step - started.first_step, "more step" if started.first_step else "step")
    return f"finished: {steps} in {in_clock_time(standing.seconds)}"


def _places(folder: RunFolder, step: int) -> Iterator[tuple[str, str]]:
    """What there is to look at."""
    places = {
        "samples": folder.samples(step),
        "forward process": folder.visualization("forward"),
        "reverse process": folder.visualization("backward"),
        "report": folder.report,
        "log": folder.metrics,
        "checkpoints": folder.checkpoints,
    }
    for name, path in places.items():
        if path.exists():
            yield name, str(path)


def _numbers(standing: RunStatus) -> Iterator[tuple[str, str]]:
    if standing.record is not None:
        yield "loss", f"{standing.record.loss:.4f}"
    if standing.validation_loss is not None:
        yield "validation loss", f"{standing.validation_loss:.4f}"
    yield from standing.last_scores.items()


def _last_checkpoint(folder: RunFolder) -> str:
    from ddpmkit.checkpoint import checkpoint_folders

    found: list[Path] = checkpoint_folders(folder.checkpoints)
    return str(found[0]) if found else "the start: there is no checkpoint yet"
