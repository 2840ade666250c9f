"""Runs several recipes one after the other. A run that fails does not stop the others."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpmkit.display import Display
from ddpmkit.errors import DdpmkitError, error_text
from ddpmkit.experiment.run_or_resume import run
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import SweepRun
from ddpmkit.run_folder import RunFolder
from ddpmkit.score_log import made_by_run, read_scores

__all__ = ["SweepOutcome", "sweep"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepOutcome:
    """How one run of a sweep ended."""

    run: SweepRun
    folder: Path
    status: str
    """One of "finished", "stopped" and "failed"."""
    problem: str = ""
    """Why the run failed; empty if it did not."""

    @property
    def numbers(self) -> dict[str, float]:
        """The last validation loss, and the last value of every score that the run itself computed, by name."""
        log, found = RunFolder(self.folder).log, {}
        for record in log.records("step"):
            if record["validation_loss"] is not None:
                found["validation loss"] = record["validation_loss"]
        for scores in made_by_run(read_scores(log)):
            found |= {f"{scores.metric} {name}": value for name, value in scores.values.items()}
        return found


def sweep(
    runs: Iterable[SweepRun],
    out: Path,
    *,
    registry: Registry | None = None,
    skip_unavailable_metrics: bool = False,
    display: Display | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[SweepOutcome]:
    """Start or resume each run in its folder below `out`, and yield how it ended. A stopped run ends the sweep."""
    for item in runs:
        folder = out / item.name
        try:
            ended = run(
                item.recipe,
                folder,
                registry=registry,
                skip_unavailable_metrics=skip_unavailable_metrics,
                display=display,
                stop=stop,
            ).ended
        except DdpmkitError as error:
            yield SweepOutcome(item, folder, "failed", str(error))
        except BaseException as error:  # an error of a plugin in one run must not stop the others
            if is_interrupt(error):
                raise
            _log.exception("the run %s failed", item.name)
            yield SweepOutcome(item, folder, "failed", error_text(error))
        else:
            status = ended.status if ended is not None else "finished"
            yield SweepOutcome(item, folder, status)
            if status == "stopped":
                return
