"""The Python side: `run` a recipe, `load` what it left.

Everything the command line does goes through here. It does not know how a terminal is drawn.
"""

from ddpmkit.experiment.loaded_run import Run, load
from ddpmkit.experiment.run_or_resume import run

__all__ = ["Run", "load", "run"]
