"""HTML pages: the report of a run, and the comparison of several runs."""

from ddpmkit.report.run_page import write_report

__all__ = ["write_report"]
