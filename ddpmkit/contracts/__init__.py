"""What a component of each kind must do, in shapes and units.

One Protocol per kind, each in a module of the kind's name. A component is any callable target that takes its validated
config and the runtime objects named in `RUNTIME` and returns an object with the members of its Protocol; inheritance is
never asked for, and the conformance kit in `ddpmkit.testing` fixes the behaviour. This package knows no component by
name and imports no torch.
"""

from ddpmkit.contracts.backbone import Backbone, LayeredBackbone
from ddpmkit.contracts.dataset import Dataset, InspectableDataset, Inspection
from ddpmkit.contracts.denoiser import Denoised, Denoiser, DiffusionProcess, Posterior
from ddpmkit.contracts.loss import Loss, VarianceLoss
from ddpmkit.contracts.metric import Better, Metric, MetricProtocol
from ddpmkit.contracts.runtime import KINDS, RUNTIME, ImageShape, Prediction
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
