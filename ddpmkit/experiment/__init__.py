"""The Python API: `run` a recipe, `load` a run folder. The command line calls the same functions."""

from ddpmkit.experiment.loaded_run import Run
from ddpmkit.experiment.loading import load
from ddpmkit.experiment.run_or_resume import run

__all__ = ["Run", "load", "run"]
