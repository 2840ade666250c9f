"""Every section, component and key of a recipe as a Markdown page.

It does not know where the page is kept.
"""

from pydantic import BaseModel

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.schema import SECTIONS, SWEEP_TABLE, SweepSection
from ddpmkit.recipe.value_descriptions import Expectations

__all__ = ["keys_text"]


def keys_text(registry: Registry) -> str:
    """Markdown: for every section a table of the core's keys, then one for each component that can fill it."""
    lines: list[str] = []
    for name, section in SECTIONS.items():
        lines += [f"## [[{name}]]" if section.many else f"## [{name}]", "", *_table(section.model)]
        if section.kind is None:
            continue
        for entry in registry.of_kind(section.kind):
            heading = [
                f'### `use = "{entry.use}"`',
                "",
                f"{entry.component.summary[:1].upper()}{entry.component.summary[1:]}.",
            ]
            lines += [*heading, "", *_table(entry.config_model())]
    lines += [f"## [{SWEEP_TABLE}]", "", *_table(SweepSection)]
    return "\n".join(lines).rstrip() + "\n"


def _table(model: type[BaseModel]) -> list[str]:
    keys = Expectations(model)
    if not keys.names:
        return []
    rows = []
    for name, field in model.model_fields.items():
        default = keys.default((name,))
        absent = "required" if field.is_required() else "unset"
        cells = [
            f"`{name}`",
            keys.of((name,)) or "",
            f"`{default}`" if default else absent,
            keys.purpose((name,)) or "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return ["| key | takes | default | |", "| --- | --- | --- | --- |", *rows, ""]
