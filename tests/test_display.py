import pytest

from ddpmkit.contracts import StepRecord
from ddpmkit.display import SafeDisplay, SilentDisplay

RECORD = StepRecord(1, 0.5, (0.1, 0.2, None, 0.4), 1.0, 1e-3, 100.0)


class FailingDisplay(SilentDisplay):
    """Raises in one method."""

    def __init__(self, fails_in: str) -> None:
        self.fails_in = fails_in

    def __getattribute__(self, name: str) -> object:
        if name == object.__getattribute__(self, "fails_in"):
            raise OSError("no space")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("method", ["message", "step", "progress"])
def test_a_display_that_raises_is_disabled_and_named(caplog: pytest.LogCaptureFixture, method: str) -> None:
    display = SafeDisplay(FailingDisplay(method))
    for _ in range(2):
        display.message("one")
        display.step(RECORD)
        with display.progress("sampling", 2) as advance:
            advance(1)
    assert caplog.messages == ["the display failed with OSError: no space; the run continues without it."]


def test_a_broken_progress_display_neither_fails_nor_hides_the_error_of_the_work() -> None:
    class Swallowing(SilentDisplay):
        def progress(self, description: str, total: int) -> "Swallowing":  # type: ignore[override]
            return self

        def __enter__(self) -> object:
            return self.advance

        def advance(self, more: int) -> None:
            raise ValueError("the bar has no length")

        def __exit__(self, *_error: object) -> bool:
            return True

    with pytest.raises(ZeroDivisionError), SafeDisplay(Swallowing()).progress("sampling", 2):  # type: ignore[arg-type]
        raise ZeroDivisionError
    with SafeDisplay(Swallowing()).progress("sampling", 2) as advance:  # type: ignore[arg-type]
        advance(1)
