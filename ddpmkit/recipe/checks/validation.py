"""Checks the values of a table against a pydantic model, and explains every error in them."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from ddpmkit.errors import error_text
from ddpmkit.interrupts import is_interrupt
from ddpmkit.recipe.checks.table import Table
from ddpmkit.recipe.problems import MAX_PROBLEMS, Problem, did_you_mean
from ddpmkit.recipe.schema.key_descriptions import KeyDescriptions
from ddpmkit.recipe.toml.positions import Key, dotted
from ddpmkit.recipe.toml.writer import toml_value

__all__ = ["unreadable_values", "validate"]

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate(model: type[ModelT], table: Table) -> ModelT | None:
    """Return an instance of the model; None if problems were found, which are added to `table.recipe`.

    Uses pydantic's JSON mode, which accepts arrays for tuples and strings for paths and is strict otherwise.
    """
    try:
        return model.model_validate_json(pydantic_core.to_json(table.values, inf_nan_mode="constants"))
    except ValidationError as error:
        descriptions = KeyDescriptions(model)
        found = _by_path(error, table.values)[:MAX_PROBLEMS]
        table.recipe.problems += [_problem(table, descriptions, path, details) for path, details in found]
    except BaseException as error:  # a validator of a plugin may raise anything
        if is_interrupt(error):
            raise
        message = f"the config of {table.owner or table.title} failed with {error_text(error)}"
        table.recipe.problems.append(table.problem(message, ("use",), table.how_to_fix_model(error)))
    return None


def unreadable_values(config: BaseModel) -> list[tuple[Key, str]]:
    """Write the config as JSON and read it again; return each key that the model then rejects, with the reason.

    pydantic does not validate defaults, so they may be outside their own range. (`validate_default` does not help: in
    JSON mode it rejects a Path as the default of a path.)
    """
    model = type(config)
    try:
        data = config.model_dump(mode="json", exclude_none=True, warnings=False)
    except PydanticSerializationError as error:
        return [((), f"its config cannot be written as JSON: {error}")]
    try:
        model.model_validate_json(pydantic_core.to_json(data, inf_nan_mode="constants"))
    except ValidationError as error:
        descriptions = KeyDescriptions(model)
        return [
            (path[:1], _value_message(_described_value(config, path), descriptions, path, data, details))
            for path, details in _by_path(error, data)[:MAX_PROBLEMS]
        ]
    except BaseException as error:  # a validator of a plugin may raise anything
        if is_interrupt(error):
            raise
        return [((), f"its config, written and read again, failed with {error_text(error)}")]
    return []


def _described_value(config: BaseModel, path: Key) -> str:
    if not path:
        return "its config, written and read again"
    name = f"`{dotted(_field(path))}`"
    given = path[0] in config.model_fields_set
    return f"{name}, written and read again," if given else f"the default of {name}"


def _by_path(error: ValidationError, values: Mapping[str, Any]) -> list[tuple[Key, ErrorDetails]]:
    """Return the errors by the path of the value, one for each path.

    A union reports an error for each of its choices. The deepest error is the most specific one, so an error about a
    value is dropped if there is an error about something in it.
    """
    found: dict[Key, ErrorDetails] = {}
    for details in error.errors(include_url=False):
        found.setdefault(_path(details, values), details)
    around = {path[:length] for path in found for length in range(1, len(path))}
    return [(path, details) for path, details in found.items() if path not in around]


def _path(details: ErrorDetails, values: Any) -> Key:
    """Return pydantic's location without the names of union members."""
    path: Key = ()
    for part in details["loc"]:
        if _contains(values, part):
            path, values = (*path, part), values[part]
    absent = details["loc"][-1] if details["type"] == "missing" else None
    return (*path, absent) if isinstance(absent, str) else path


def _contains(values: Any, part: str | int) -> bool:
    # `"text" in range(n)` would compare the text with each number.
    is_index = isinstance(values, list) and isinstance(part, int)
    return part in range(len(values)) if is_index else isinstance(values, Mapping) and part in values


def _problem(table: Table, descriptions: KeyDescriptions, path: Key, details: ErrorDetails) -> Problem:
    field = _field(path)
    name, title = dotted(field), table.title
    match details["type"]:
        case "extra_forbidden" if len(path) == 1:
            return _unknown_key(table, descriptions, name)
        case "extra_forbidden":
            return table.problem(f"unknown key `{name}` in {title}", path, at_key=True)
        case "missing" if isinstance(details["loc"][-1], str):
            return _missing_key(table, descriptions, field)
        case "value_error" | "assertion_error" if not path:
            message = _author_message(details)
            # The error is about the whole table; it is shown at the first key that its message contains.
            named = next((word for word in re.findall(r"\w+", message) if word in table.values), None)
            return table.problem(f"{title}: {message}", (named,) if named else ())
    message = _value_message(f"`{name}` in {title}" if path else title, descriptions, path, table.values, details)
    if (accepted := _accepted(descriptions, path, details)) is None:
        return table.problem(message, path)
    purpose = descriptions.purpose(field)
    correction = _corrected(_at(table.values, path), accepted)
    return table.problem(message, path, correction, f"`{name}`: {purpose}" if purpose else None)


def _value_message(named: str, descriptions: KeyDescriptions, path: Key, values: Any, details: ErrorDetails) -> str:
    """Return what the value called `named` must be, and what it is."""
    if (accepted := _accepted(descriptions, path, details)) is None:
        reason = _author_message(details)
        return f"{named} {reason}" if reason.startswith(("must ", "cannot ")) else f"{named}: {reason}"
    verb = "is" if path == _field(path) else "contains"
    return f"{named} must be {accepted}, but {verb} {_shortened(_at(values, path))}"


def _accepted(descriptions: KeyDescriptions, path: Key, details: ErrorDetails) -> str | None:
    """Return the accepted values; None if the model's author wrote a message, or they cannot be described."""
    absent = details["type"] == "missing" and isinstance(details["loc"][-1], str)
    by_author = details["type"] in ("value_error", "assertion_error")
    return None if absent or by_author else descriptions.accepted(_field(path))


def _field(path: Key) -> Key:
    """Return the path of the list if `path` is an entry of one."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _at(values: Any, path: Key) -> Any:
    for part in path:
        values = values[part]
    return values


def _author_message(details: ErrorDetails) -> str:
    return details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _missing_key(table: Table, descriptions: KeyDescriptions, field: Key) -> Problem:
    name = dotted(field)
    message = f"`{name}` is missing in {table.title}" + (f"; the {table.owner} needs it" if table.owner else "")
    if name == "use":
        return table.problem(message, (), *table.key_hints(name))
    purpose = descriptions.purpose(field)
    return table.problem(message, ("use",), f"{descriptions.full(field)}{f': {purpose}' if purpose else ''}")


def _unknown_key(table: Table, descriptions: KeyDescriptions, name: str) -> Problem:
    known = (*table.other_keys, descriptions)
    names = [key for group in known for key in group.names]
    close = did_you_mean(name, names)
    described = next((group.full((close,)) for group in known if close in group.names), None) if close else None
    hints = table.key_hints(name)
    return table.problem(
        f"unknown key `{name}` in {table.title}",
        (name,),
        f"did you mean {described}?" if described and not hints else None,
        *hints,
        f"keys of {table.title}: {', '.join(names) or 'none'}",
        at_key=True,
    )


def _shortened(value: Any) -> str:
    text = toml_value(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _corrected(value: Any, accepted: str) -> str | None:
    """Return a hint with the same value in the accepted form; None if there is no obvious one."""
    match value:
        case float() if "integer" in accepted and value.is_integer() and abs(value) < 2**63:
            return f"write {toml_value(int(value))}: in TOML, a number with a point or an exponent is not an integer"
        case str() if "true or false" in accepted and value.lower() in ("true", "false"):
            return f"write {value.lower()}, without quotes"
        case str() if "a list of" in accepted and "strings" in accepted:
            return f"write [{toml_value(value)}]"
        case str() if value.isdecimal() and ("integer" in accepted or "number" in accepted):
            return f"write {value}, without quotes"
    return None
