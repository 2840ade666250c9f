"""Which values of a config name code."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from ddpmkit.plugin import ComponentConfig, RunsCode
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.runs_code import CodeValue, code_values


class Inner(BaseModel):
    module: Annotated[str, RunsCode("a module that is imported")]
    depth: int = 1


class Config(ComponentConfig):
    extractor: Annotated[str, RunsCode("a function that is called")] = "ours:default"
    file: Annotated[Path | None, RunsCode("a file that is run")] = None
    empty: Annotated[str, RunsCode("a file that is run"), Field(max_length=9)] = ""
    inner: tuple[Inner, ...] = ()
    name: str = "plain"


def test_defaults_and_empty_values_are_not_code_values() -> None:
    assert list(code_values(Config())) == []
    assert list(code_values(Config(extractor="ours:default", empty="", name="other"))) == []


def test_nested_code_values_are_found() -> None:
    config = Config(extractor="a:b", file=Path("x.pt"), inner=(Inner(module="c"), Inner(module="d")))
    assert list(code_values(config, ("metric", 0))) == [
        CodeValue(("metric", 0, "extractor"), "a:b", "a function that is called"),
        CodeValue(("metric", 0, "file"), Path("x.pt"), "a file that is run"),
        CodeValue(("metric", 0, "inner", 0, "module"), "c", "a module that is imported"),
        CodeValue(("metric", 0, "inner", 1, "module"), "d", "a module that is imported"),
    ]


@pytest.mark.parametrize(
    ("use", "field"),
    [("fd", "extractor"), ("clean-fid", "inception"), ("clean-kid", "inception"), ("precision-recall", "inception")],
)
def test_built_in_metrics_mark_fields_that_run_code(use: str, field: str) -> None:
    model = discover(third_party=False).registry().get("metric", use).config_model()
    assert [code.key for code in code_values(model.model_validate({field: "theirs.pt"}))] == [(field,)]
