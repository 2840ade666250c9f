"""Writes docs/contracts.md from the docstrings of the modules that plugins may import, without importing them."""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from ddpmkit.contracts import KINDS, RUNTIME

__all__ = ["contracts_text"]

_SHARED_MODULES: Mapping[str, str] = {
    "ddpmkit.contracts": "ddpmkit.contracts.kinds",
    **{
        module: module
        for module in (
            "ddpmkit.plugin",
            "ddpmkit.diffusion",
            "ddpmkit.nn",
            "ddpmkit.frechet",
            "ddpmkit.decoding",
            "ddpmkit.pixel_cache",
        )
    },
}
"""By module that a plugin imports from, the module that `__all__` is read from."""

_PACKAGE = Path(__file__).parent.parent

_CALLABLE_METHODS = ("__init__", "__call__", "__len__")
"""Special methods that are part of a contract."""


def contracts_text(kinds: Iterable[str] = KINDS, shared: Mapping[str, str] = _SHARED_MODULES) -> str:
    """Markdown: for each kind, how a component is built, its Protocol and its records; then the shared modules."""
    lines: list[str] = []
    for kind in kinds:
        runtime = f", *, {', '.join(RUNTIME[kind])}" if RUNTIME[kind] else ""
        module = f"ddpmkit.contracts.{kind}"
        lines += [f"## {kind}", "", *_code_block(f"Target(config{runtime})"), *_entries(module, _exported(module))]
    for name, module in shared.items():
        lines += [f"## `{name}`", "", *_docstring(_parsed(module)), *_entries(module, _exported(module))]
    return "\n".join(lines).rstrip() + "\n"


def _entries(module: str, public: set[str]) -> Iterator[str]:
    """Yield the `public` names of a module in source order; names that it imports from other modules come last."""
    statements = sorted(_with_following(_parsed(module).body), key=lambda pair: isinstance(pair[0], ast.ImportFrom))
    for statement, following in statements:
        match statement:
            case ast.ImportFrom(module=str(origin), names=aliases):
                if imported := public & {alias.name for alias in aliases}:
                    yield from _entries(origin, imported)
            case ast.ClassDef(name=name) if name in public:
                yield from [f"### `{name}`", "", *_docstring(statement), *_members(module, statement)]
            case ast.FunctionDef(name=name) if name in public:
                yield from [f"### `{name}`", "", *_signature(module, statement), *_docstring(statement)]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in public:
                yield from [
                    f"### `{name}`",
                    "",
                    *_code_block(_source_segment(module, statement)),
                    _docstring_below(following),
                    "",
                ]


def _members(module: str, owner: ast.ClassDef) -> Iterator[str]:
    """Yield the fields of a record as a list, then the public methods."""
    if fields := list(_fields(module, owner)):
        yield from [*fields, ""]
    for member in owner.body:
        if isinstance(member, ast.FunctionDef) and (member.name[0] != "_" or member.name in _CALLABLE_METHODS):
            yield from [*_signature(module, member), *_docstring(member)]


def _is_record(owner: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(mark) for mark in owner.decorator_list) or any(
        ast.unparse(base) == "NamedTuple" for base in owner.bases
    )


def _fields(module: str, owner: ast.ClassDef) -> Iterator[str]:
    for member, following in _with_following(owner.body if _is_record(owner) else []):
        if isinstance(member, ast.AnnAssign):
            # The factory only matters as the default value.
            declared = _source_segment(module, member).replace(" = field(default_factory=dict)", " = {}")
            text = textwrap.indent(_docstring_below(following), "  ")
            yield f"- `{declared}`" + (f"  \n{text}" if text else "")


def _signature(module: str, function: ast.FunctionDef) -> list[str]:
    """Return the signature as in the source, including decorators."""
    source = _source(module).splitlines()
    first = min([function.lineno, *(mark.lineno for mark in function.decorator_list)])
    body = function.body[0]
    head = [*source[first - 1 : body.lineno - 1], source[body.lineno - 1][: body.col_offset]]
    return _code_block(textwrap.dedent("\n".join(head)).rstrip().removesuffix(":"))


def _code_block(text: str) -> list[str]:
    return ["```python", text, "```", ""]


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> list[str]:
    text = ast.get_docstring(node)
    return [text, ""] if text else []


def _docstring_below(statement: ast.stmt | None) -> str:
    """Return the docstring below a field or a constant."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    return ""


def _with_following(body: Sequence[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.stmt | None]]:
    """Return each statement with the next one, which can be its docstring."""
    return zip_longest(body, body[1:])


def _exported(module: str) -> set[str]:
    """Return the names in `__all__`."""
    for statement in _parsed(module).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=names):
                return set(ast.literal_eval(names))
    return set()


def _source_segment(module: str, node: ast.AST) -> str:
    return ast.get_source_segment(_source(module), node) or ""


def _parsed(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _source(module: str) -> str:
    """Return the source of a module of ddpmkit. `find_spec` would import its package, which may import torch."""
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")
