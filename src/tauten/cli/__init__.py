"""The command line: ``tauten demo | train | evaluate | embed | search | report | compare ...``."""

from tauten.cli.entry import main

__all__ = ["main"]
