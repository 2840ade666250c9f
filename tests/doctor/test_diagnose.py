import warnings

import pytest

from ddpmkit.doctor.diagnose import diagnose, one_line
from ddpmkit.plugin import Diagnosis


def good() -> Diagnosis:
    return Diagnosis("zig", "note", "half full")


def test_warnings_are_ignored() -> None:
    def noisy() -> Diagnosis:
        warnings.warn("half", stacklevel=1)
        return good()

    assert diagnose("zig", noisy) == good()


def test_a_check_that_raises_is_a_problem_with_a_traceback_and_remedies() -> None:
    def failing() -> Diagnosis:
        raise RuntimeError("no disk\nat all")

    found = diagnose("zig", failing, remedies=("add one",))
    assert (found.subject, found.state, found.remedies) == ("zig", "problem", ("add one",))
    assert found.finding == "the check failed: RuntimeError: no disk"
    assert found.details.endswith("RuntimeError: no disk\nat all\n")


@pytest.mark.parametrize(
    ("error", "text"),
    [(KeyError("beta"), "KeyError: 'beta'"), (ValueError(), "ValueError"), (OSError("a\nb"), "OSError: a")],
)
def test_one_line_is_the_type_and_the_first_line(error: Exception, text: str) -> None:
    assert one_line(error) == text
