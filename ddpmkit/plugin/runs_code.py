"""Config fields whose values name code, which a recipe from elsewhere must not run unasked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

__all__ = ["NamedCode", "RunsCode", "named_code"]


@dataclass(frozen=True)
class RunsCode:
    """Marks a field of a config whose value names code that the component runs.

    `extractor: Annotated[str, RunsCode("a module that is imported")]`. The value of a recipe that the user wrote is
    used as it is. The value in a run folder or a checkpoint from elsewhere is used only with `--trust`. An empty value
    and the field's default name nothing that needs trust.
    """

    how: str
    """What is run, and how: "a function that is imported and called"."""


@dataclass(frozen=True)
class NamedCode:
    """A value that names code."""

    key: tuple[str | int, ...]
    """The way to the value: from the config, or from the whole recipe."""
    value: Any
    how: str
    """As `RunsCode` says it."""


def named_code(config: BaseModel, key: tuple[str | int, ...] = ()) -> Iterator[NamedCode]:
    """Every value of a config, and of the models inside it, that names code; `key` leads to the config."""
    for name, field in type(config).model_fields.items():
        value, here = getattr(config, name), (*key, name)
        marks = [mark for mark in field.metadata if isinstance(mark, RunsCode)]
        if marks and value and value != field.get_default(call_default_factory=False):
            yield NamedCode(here, value, marks[0].how)
        yield from _inside(value, here)


def _inside(value: Any, key: tuple[str | int, ...]) -> Iterator[NamedCode]:
    match value:
        case BaseModel():
            yield from named_code(value, key)
        case Mapping():
            for name, entry in value.items():
                yield from _inside(entry, (*key, name))
        case list() | tuple():
            for index, entry in enumerate(value):
                yield from _inside(entry, (*key, index))
