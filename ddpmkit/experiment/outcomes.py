"""What is made from a network: a grid of samples, a score.

It does not know whether a run is under way or long over.
"""

from ddpmkit.contracts import Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.evaluation import Reference, evaluate_metric, evaluation_cost, reference_states
from ddpmkit.experiment.assembly import BuiltMetric
from ddpmkit.rundir import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.pictures import grid, save_png
from ddpmkit.tracking import Display

__all__ = ["draw_samples", "evaluate"]
