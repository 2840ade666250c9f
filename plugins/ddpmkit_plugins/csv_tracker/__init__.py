"""CSV tables of a run, for a spreadsheet: manifest."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, hookimpl


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the tracker."""
    yield Component(
        kind="tracker",
        name="csv",
        target="ddpmkit_plugins.csv_tracker.tracker:CsvTracker",
        summary="`metrics.csv` and `scores.csv` in the run folder, for a spreadsheet",
    )
