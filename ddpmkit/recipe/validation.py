"""A section's values as a checked model, or everything that is wrong with them.

It does not know sections or components: a table, a model and the names around them are all it sees.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from ddpmkit.errors import error_text
from ddpmkit.interrupts import is_interrupt
from ddpmkit.recipe.layers import Layered
from ddpmkit.recipe.problems import MOST, Problem, did_you_mean
from ddpmkit.recipe.toml_positions import Key
from ddpmkit.recipe.toml_writer import toml_value
from ddpmkit.recipe.value_descriptions import Expectations

__all__ = ["Table", "unreadable", "validate"]

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Table:
    """A table of the recipe, or the part of it that one model describes."""

    tree: Layered
    key: Key
    values: Mapping[str, Any]
    title: str
    """`[train]`, `[[metric]]`."""
    owner: str = ""
    """Who asks for these keys, where it is not the core: `schedule cosine`."""
    others: Sequence[Expectations] = ()
    """Further keys that may stand in the same table."""
    guidance: Callable[[str], Sequence[str]] = lambda _: ()
    """What to say about a key that is unknown here, or missing."""
    mend: Callable[[BaseException], str] = lambda _: "report it to the authors of ddpmkit"
    """What to do when the model itself breaks."""

    def problem(self, message: str, path: Key = (), *hints: str | None, at_key: bool = False) -> Problem:
        """A problem with the value at `path` in this table."""
        origin = self.tree.origin((*self.key, *path))
        span = (origin.position.key if at_key else origin.position.value) if origin.position else None
        return Problem(message, origin.source, span, tuple(hint for hint in hints if hint))


def validate(model: type[ModelT], table: Table) -> ModelT | None:
    """The model, or None when problems were added to the table's tree.

    In pydantic's JSON mode, which takes arrays for tuples and strings for paths and is strict in all else.
    """
    try:
        return model.model_validate_json(pydantic_core.to_json(table.values, inf_nan_mode="constants"))
    except ValidationError as error:
        expectations = Expectations(model)
        found = _by_path(error, table.values)[:MOST]
        table.tree.problems += [_problem(table, expectations, path, details) for path, details in found]
    except BaseException as error:  # a validator of someone else's model may do anything
        if is_interrupt(error):
            raise
        message = f"the config of {table.owner or table.title} broke with {error_text(error)}"
        table.tree.problems.append(table.problem(message, ("use",), table.mend(error)))
    return None


def unreadable(config: BaseModel) -> list[tuple[Key, str]]:
    """Keys whose values the config's own model refuses once they are written down and read back, each with why.

    pydantic takes defaults unseen, so they may lie outside their own range. (Its `validate_default` is no help: in JSON
    mode it refuses a Path as the default of a path.)
    """
    model = type(config)
    try:
        data = config.model_dump(mode="json", exclude_none=True, warnings=False)
    except PydanticSerializationError as error:
        return [((), f"its config cannot be written down: {error}")]
    try:
        model.model_validate_json(pydantic_core.to_json(data, inf_nan_mode="constants"))
    except ValidationError as error:
        expectations = Expectations(model)
        return [
            (path[:1], _refusal(_owned(config, path), expectations, path, data, details))
            for path, details in _by_path(error, data)[:MOST]
        ]
    except BaseException as error:  # a validator of someone else's model may do anything
        if is_interrupt(error):
            raise
        return [((), f"its config, read back as it is written down, broke with {error_text(error)}")]
    return []


def _owned(config: BaseModel, path: Key) -> str:
    if not path:
        return "its config, read back as it is written down"
    name = f"`{'.'.join(map(str, _field(path)))}`"
    given = path[0] in config.model_fields_set
    return f"{name}, read back as it is written down," if given else f"the default of {name}"


def _by_path(error: ValidationError, values: Mapping[str, Any]) -> list[tuple[Key, ErrorDetails]]:
    """The errors by the value they are about, one each.

    A union reports once for each of its choices. The choice that got furthest into the value says most, so an error
    about a value gives way to one about something inside it.
    """
    found: dict[Key, ErrorDetails] = {}
    for details in error.errors(include_url=False):
        found.setdefault(_path(details, values), details)
    around = {path[:length] for path in found for length in range(1, len(path))}
    return [(path, details) for path, details in found.items() if path not in around]


def _path(details: ErrorDetails, values: Any) -> Key:
    """pydantic's location without the names of union choices that it weaves in."""
    path: Key = ()
    for part in details["loc"]:
        if _holds(values, part):
            path, values = (*path, part), values[part]
    absent = details["loc"][-1] if details["type"] == "missing" else None
    return (*path, absent) if isinstance(absent, str) else path


def _holds(values: Any, part: str | int) -> bool:
    # Asked for a string, a range would compare it to each of its numbers.
    is_index = isinstance(values, list) and isinstance(part, int)
    return part in range(len(values)) if is_index else isinstance(values, Mapping) and part in values


def _problem(table: Table, expectations: Expectations, path: Key, details: ErrorDetails) -> Problem:
    field = _field(path)
    name, title = ".".join(map(str, field)), table.title
    match details["type"]:
        case "extra_forbidden" if len(path) == 1:
            return _unknown_key(table, expectations, name)
        case "extra_forbidden":
            return table.problem(f"unknown key `{name}` in {title}", path, at_key=True)
        case "missing" if isinstance(details["loc"][-1], str):
            return _missing_key(table, expectations, field)
        case "value_error" | "assertion_error" if not path:
            said = _said(details)
            # About the table as a whole: shown at the first key that the message names.
            named = next((word for word in re.findall(r"\w+", said) if word in table.values), None)
            return table.problem(f"{title}: {said}", (named,) if named else ())
    message = _refusal(f"`{name}` in {title}" if path else title, expectations, path, table.values, details)
    if (wanted := _wanted(expectations, path, details)) is None:
        return table.problem(message, path)
    return table.problem(message, path, _same_value(_at(table.values, path), wanted), expectations.purpose(field))


def _refusal(named: str, expectations: Expectations, path: Key, values: Any, details: ErrorDetails) -> str:
    """What the value of that name must be, and what it is."""
    if (wanted := _wanted(expectations, path, details)) is None:
        return f"{named}: {_said(details)}"
    return f"{named} must be {wanted}, but {'is' if path == _field(path) else 'has'} {_shown(_at(values, path))}"


def _wanted(expectations: Expectations, path: Key, details: ErrorDetails) -> str | None:
    """None where the model's author has said it, where no value is there, or where it cannot be said."""
    absent = details["type"] == "missing" and isinstance(details["loc"][-1], str)
    return None if absent or details["type"] in ("value_error", "assertion_error") else expectations.of(_field(path))


def _field(path: Key) -> Key:
    """An entry of a list is spoken of by the list's key."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _at(values: Any, path: Key) -> Any:
    for part in path:
        values = values[part]
    return values


def _said(details: ErrorDetails) -> str:
    return details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _missing_key(table: Table, expectations: Expectations, field: Key) -> Problem:
    name = ".".join(map(str, field))
    message = f"{table.title} lacks `{name}`" + (f"; the {table.owner} needs it" if table.owner else "")
    if name == "use":
        return table.problem(message, (), *table.guidance(name))
    return table.problem(message, ("use",), expectations.described(field), expectations.purpose(field))


def _unknown_key(table: Table, expectations: Expectations, name: str) -> Problem:
    known = (*table.others, expectations)
    names = [key for group in known for key in group.names]
    close = did_you_mean(name, names)
    described = next((group.described((close,)) for group in known if close in group.names), None) if close else None
    guidance = table.guidance(name)
    return table.problem(
        f"unknown key `{name}` in {table.title}",
        (name,),
        f"did you mean {described}?" if described and not guidance else None,
        *guidance,
        f"keys of {table.title}: {', '.join(names)}",
        at_key=True,
    )


def _shown(value: Any) -> str:
    text = toml_value(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _same_value(value: Any, wanted: str) -> str | None:
    """The same thing, as it should have been written."""
    match value:
        case float() if "integer" in wanted and value.is_integer() and abs(value) < 2**63:
            return f"write {toml_value(int(value))}: in TOML a point or an exponent makes a number that is no integer"
        case str() if "true or false" in wanted and value.lower() in ("true", "false"):
            return f"write {value.lower()}, without quotes"
        case str() if "a list of" in wanted and "strings" in wanted:
            return f"write [{toml_value(value)}]"
        case str() if value.isdecimal() and ("integer" in wanted or "number" in wanted):
            return f"write {value}, without quotes"
    return None
