"""One self-contained HTML page from run folders: what was compared, the numbers, the pictures."""

from tauten.extras import need

need("tauten.report", "numpy", "matplotlib", "jinja2", "yaml")

from tauten.report.comparable import comparable
from tauten.report.folders import load_runs
from tauten.report.page import write
from tauten.report.runs import Run, SeedRun

__all__ = ["Run", "SeedRun", "comparable", "load_runs", "write"]
