"""Whether the parts of a recipe fit together: what one needs, another must provide.

It does not know what a capability means. Two kinds are provided by the process itself: `prediction:v` and its like,
and `terminal-signal`, some signal at the last step, for samplers that divide by it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.recipe import Part
from ddpmkit.recipe.schema import DiffusionSection
from ddpmkit.recipe.validation import Table

__all__ = ["providers", "unmet_needs"]


def unmet_needs(
    parts: Sequence[tuple[Table, Part[Any]]], diffusion: DiffusionSection, registry: Registry
) -> Iterator[Problem]:
    """One problem for each need (`a|b` is met by either) that no part of the recipe meets."""
    provided = {f"prediction:{diffusion.prediction}"}
    provided |= set() if diffusion.zero_terminal_snr else {"terminal-signal"}
    provided |= {capability for _, part in parts for capability in part.component.component.provides}
    for table, part in parts:
        for need in part.component.component.needs:
            alternatives = need.split("|")
            if provided.isdisjoint(alternatives):
                what = " or ".join(f"`{alternative}`" for alternative in alternatives)
                message = (
                    f"{part.component.kind} `{part.component.use}` needs {what}, which nothing in this recipe provides"
                )
                ways = list(providers(alternatives, registry)) or [_elsewhere(part)]
                yield table.problem(message, ("use",), *ways)


def _elsewhere(part: Part[Any]) -> str:
    """What to do when nothing that is installed meets a need."""
    kind, origin = part.component.kind, part.component.origin
    return f"nothing that is installed provides it: pip install what {origin} says it goes with, or use another {kind}"


def providers(alternatives: Sequence[str], registry: Registry) -> Iterator[str]:
    """What could be added to a recipe to meet one of these needs, in words."""
    for alternative in alternatives:
        capability, _, prediction = alternative.partition(":")
        if capability == "prediction":
            yield f'diffusion.prediction = "{prediction}" provides it'
        if capability == "terminal-signal":
            yield "diffusion.zero_terminal_snr = false provides it"
        for entries in registry.components.values():
            for entry in entries.values():
                if alternative in entry.component.provides:
                    yield f"{entry.kind} `{entry.use}` provides it"
