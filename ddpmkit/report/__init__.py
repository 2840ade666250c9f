"""The page that explains a run to someone who was not there."""

from ddpmkit.report.run_page import write_report

__all__ = ["write_report"]
