"""The report of a run: one HTML file that needs nothing else."""

from mpqdeploy.report.render import write_report

__all__ = ["write_report"]
