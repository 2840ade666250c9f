"""Marks config fields whose value names code. In the lock of another user's run, this code runs only with `--trust`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

__all__ = ["CodeValue", "RunsCode", "code_values"]


@dataclass(frozen=True)
class RunsCode:
    """Marks a config field whose value names code that the component imports or executes.

    `extractor: Annotated[str, RunsCode("a module that is imported")]`. A value in the user's own recipe is used
    without a question. A value in a run folder or a checkpoint of another user requires `--trust`. An empty value
    and the default of the field never require it.
    """

    how: str
    """How the code is run, for a message to the user: `"a function that is imported and called"`."""


@dataclass(frozen=True)
class CodeValue:
    """A config value that names code."""

    key: tuple[str | int, ...]
    """The path to the value, from the config or from the recipe."""
    value: Any
    how: str
    """`RunsCode.how` of the field."""


def code_values(config: BaseModel, key: tuple[str | int, ...] = ()) -> Iterator[CodeValue]:
    """Yield every value that names code, in a config and the models inside it. `key` is the path to the config."""
    for name, field in type(config).model_fields.items():
        value, path = getattr(config, name), (*key, name)
        marks = [mark for mark in field.metadata if isinstance(mark, RunsCode)]
        if marks and value and value != field.get_default(call_default_factory=False):
            yield CodeValue(path, value, marks[0].how)
        yield from _nested(value, path)


def _nested(value: Any, key: tuple[str | int, ...]) -> Iterator[CodeValue]:
    match value:
        case BaseModel():
            yield from code_values(value, key)
        case Mapping():
            for name, entry in value.items():
                yield from _nested(entry, (*key, name))
        case list() | tuple():
            for index, entry in enumerate(value):
                yield from _nested(entry, (*key, index))
