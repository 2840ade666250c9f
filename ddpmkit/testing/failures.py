"""The exceptions by which a check reports its result, and `require`."""

__all__ = ["ConformanceError", "NotApplicable", "NotBuilt", "NotChecked", "require"]


class ConformanceError(AssertionError):
    """A component violates the contract of its kind, or passes a check that it was declared to fail."""


class NotApplicable(Exception):
    """A check does not apply to a component. The message states why."""


class NotChecked(Exception):
    """A check could not be run. The message states why; the cause is what the component raised."""


class NotBuilt(NotChecked):
    """A check could not be run because the component could not be built."""


def require(condition: bool, seen: str) -> None:
    """Raise ConformanceError unless `condition` is true. `seen` states what was expected and what was found."""
    if not condition:
        raise ConformanceError(seen)
