"""Evaluates metrics on real and generated images, estimates their cost, and caches reference statistics."""

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
