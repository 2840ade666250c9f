import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from ddpmkit.recipe.toml.positions import Key, locate

HARD = '''\
# a comment
title = "é" # another
a.b = 1
a . "c d".e = [ 1, # one
  [2, "x"],
]
multi = """
[not.a.table]
k = 1
"""
point = { x = 1, y.z = 'two' }

[table]
"quoted = key" = 3 # not = this
'literal' = true

[[list]]
use = "first"
[list.sub]
deep = 1
[[list.inner]]
n = 1
[[list.inner]]
n = 2
[[list]]
use = "second"
[a.f]
g = 1979-05-27T07:32:00Z
'''


def leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*key, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*key, index))
    else:
        yield key, value


def at(key: Key, part: str) -> str:
    span = getattr(locate(HARD)[key], part)
    assert HARD.split("\n")[span.line - 1] == span.text
    return f"{span.line}:{span.column} {span.text[span.column - 1 : span.column - 1 + span.width]}"


def test_every_value_has_a_position() -> None:
    positions = locate(HARD)
    for key, value in leaves(tomllib.loads(HARD)):
        span = positions[key].value
        written = span.text[span.column - 1 : span.column - 1 + span.width]
        if "\n" not in str(value) and not hasattr(value, "year"):
            assert tomllib.loads(f"v = {written}")["v"] == value


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        (("title",), "2:1 title", '2:9 "é"'),
        (("a", "b"), "3:3 b", "3:7 1"),
        (("a", "c d", "e"), "4:11 e", "4:15 [ 1, # one"),
        (("a", "c d", "e", 1, 1), '5:7 "x"', '5:7 "x"'),
        (("multi",), "7:1 multi", '7:9 """'),
        (("point", "y", "z"), "11:20 z", "11:24 'two'"),
        (("table",), "13:2 table", "13:2 table"),
        (("table", "quoted = key"), '14:1 "quoted = key"', "14:18 3"),
        (("list", 0, "sub", "deep"), "20:1 deep", "20:8 1"),
        (("list", 0, "inner", 1, "n"), "24:1 n", "24:5 2"),
        (("list", 1), "25:3 list", "25:3 list"),
        (("list", 1, "use"), "26:1 use", '26:7 "second"'),
        (("a", "f", "g"), "28:1 g", "28:5 1979-05-27T07:32:00Z"),
    ],
)
def test_positions_mark_keys_and_values(key: Key, name: str, value: str) -> None:
    assert at(key, "key") == name
    assert at(key, "value") == value


def test_columns_count_characters() -> None:
    span = locate('a = { "ключ" = "見", b = 5 }')["a", "b"].value
    assert span.column == 25
