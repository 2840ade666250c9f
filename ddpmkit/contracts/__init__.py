"""The contract of each kind of component: a Protocol, with shapes, dtypes and errors.

Each kind has a module. A component is a callable `target(config, **runtime)` that returns an object with the members of
the Protocol of its kind. No base class is needed. The checks in `ddpmkit.testing` verify the behaviour. Importing this
package imports no torch.
"""

from ddpmkit.contracts.backbone import Backbone, LayeredBackbone
from ddpmkit.contracts.dataset import Dataset, InspectableDataset, Inspection
from ddpmkit.contracts.denoiser import Denoised, Denoiser, DiffusionProcess, Posterior
from ddpmkit.contracts.kinds import KINDS, RUNTIME, ImageShape, Prediction
from ddpmkit.contracts.loss import Loss, VarianceLoss
from ddpmkit.contracts.metric import Better, Metric, MetricProtocol
from ddpmkit.contracts.sampler import NoiseSource, Sampler, SamplerState
from ddpmkit.contracts.schedule import Schedule
from ddpmkit.contracts.tracker import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker

__all__ = [
    "KINDS",
    "RUNTIME",
    "Backbone",
    "Better",
    "Dataset",
    "Denoised",
    "Denoiser",
    "DiffusionProcess",
    "ImageShape",
    "InspectableDataset",
    "Inspection",
    "LayeredBackbone",
    "Loss",
    "Metric",
    "MetricProtocol",
    "NoiseSource",
    "Picture",
    "Posterior",
    "Prediction",
    "RunEnded",
    "RunStarted",
    "Sampler",
    "SamplerState",
    "Schedule",
    "Scores",
    "StepRecord",
    "Tracker",
    "VarianceLoss",
]
