import datetime
import math
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpmkit.recipe import toml_lines, toml_text
from ddpmkit.recipe.toml.writer import toml_value

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = st.one_of(
    words, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.dates(), st.times()
)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(words, values, max_size=5))
def test_tomllib_reads_what_was_written(data: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(data)) == data


def test_deep_tables_are_inline_and_large_numbers_are_grouped() -> None:
    data = {"metric": [{"use": "fid", "every": 10_000}, {"use": "kid"}], "lock": {"v": {"a-b": "1", "c d": 2}}, "n": 1}
    assert toml_text(data) == (
        'n = 1\n\n[[metric]]\nuse = "fid"\nevery = 10_000\n\n[[metric]]\nuse = "kid"\n\n'
        '[lock]\nv = { a-b = "1", "c d" = 2 }\n'
    )


def test_each_line_has_its_key() -> None:
    lines = [line for line in toml_lines({"name": "x", "metric": [{"use": "fid"}]}) if line.key]
    assert [line.key for line in lines] == [("name",), ("metric", 0, "use")]


def test_invisible_characters_are_escaped() -> None:
    text = "a\x7f\x9b31m\u202e\U000e0001é猫"
    assert toml_value(text) == '"a\\u007f\\u009b31m\\u202e\\U000e0001é猫"'
    assert tomllib.loads(f"v = {toml_value(text)}")["v"] == text


def test_nan_is_written() -> None:
    assert math.isnan(tomllib.loads(f"v = {toml_value(math.nan)}")["v"])


@pytest.mark.parametrize("value", [None, object(), datetime.timedelta(1)])
def test_a_value_that_toml_does_not_have_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be written in TOML"):
        toml_value(value)
