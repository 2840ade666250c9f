"""Scores in words: never a number without the rules it was taken by.

It does not know where they are printed.
"""

from ddpmkit.contracts import Scores

__all__ = ["describe_scores"]


def describe_scores(scores: Scores) -> list[tuple[str, str]]:
    """Label and text, line by line: each score with its floor, then N, reference and every other fact."""
    lines = [("metric", f"{scores.metric} ({scores.protocol} protocol)"), ("step", f"{scores.step:,}")]
    lines += [(name, _value(scores, name)) for name in scores.values]
    lines += [(name, f"{text} (not a finite number)") for name, text in scores.unusable.items()]
    if not scores.comparable:
        lines.append(("comparable", f"no: the {scores.protocol} protocol compares with nothing else"))
    facts = dict(scores.facts)
    lines.append(("samples", f"{scores.num_samples:,}"))
    lines.append(
        ("reference", f"{scores.num_reference:,} images: {facts.pop('reference', 'as the metric takes them')}")
    )
    return [*lines, *facts.items()]


def _value(scores: Scores, name: str) -> str:
    remarks = [f"{scores.better[name]} is better"] if scores.better.get(name, "neither") != "neither" else []
    if name in scores.floor:
        remarks.append(f"real against real: {scores.floor[name]:.4g}")
    text = f"{scores.values[name]:.4g}"
    return f"{text} ({', '.join(remarks)})" if remarks else text
