"""Evaluation: metrics over real and generated images, what they cost, and how far real images are from themselves."""

from ddpmkit.evaluation.cost import EvaluationCost, estimate_cost
from ddpmkit.evaluation.evaluate import evaluate_metric
from ddpmkit.evaluation.reference import Reference, cached_reference, reference_states

__all__ = [
    "EvaluationCost",
    "Reference",
    "cached_reference",
    "estimate_cost",
    "evaluate_metric",
    "reference_states",
]
