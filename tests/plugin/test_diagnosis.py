from typing import Any

import pytest

from ddpmkit.plugin import Diagnosis


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("state", "warning", "unknown state 'warning'; states are ok, note, problem"),
        ("state", ["ok"], "unknown state"),
        ("remedies", "buy one", "remedies must be a tuple of strings, not 'buy one'"),
        ("remedies", ["buy one"], "remedies must be a tuple"),
        ("remedies", (1,), r"remedies must be a tuple of strings, not \(1,\)"),
        ("subject", None, "subject must be a string, not None"),
        ("finding", 3, "finding must be a string, not 3"),
        ("details", b"x", "details must be a string, not b'x'"),
    ],
)
def test_a_malformed_field_is_an_error(field: str, value: object, message: str) -> None:
    fields: dict[str, Any] = {"subject": "weights", "state": "ok", "finding": "there", field: value}
    with pytest.raises(ValueError, match=f"the diagnosis of .*{message}"):
        Diagnosis(**fields)


def test_remedies_are_optional() -> None:
    assert Diagnosis("weights", "note", "there").remedies == ()
