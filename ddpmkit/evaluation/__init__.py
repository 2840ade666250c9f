"""Evaluation: metrics over real and generated images, what they cost, and how far real images are from themselves."""

from ddpmkit.evaluation.cost import EvaluationCost, estimate_cost
from ddpmkit.evaluation.evaluate import evaluate_metric
from ddpmkit.evaluation.reference import Reference, cached_reference, reference_states
from ddpmkit.evaluation.score_text import describe_scores

__all__ = [
    "EvaluationCost",
    "Reference",
    "cached_reference",
    "describe_scores",
    "estimate_cost",
    "evaluate_metric",
    "reference_states",
]
