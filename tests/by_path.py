"""Modules that are loaded from their files, as no package has them."""

import importlib.util
import sys


def load(path, name=None):
    """Return the module of a file, also known to imports by the name, else by one of its own."""
    name = name or f"loaded_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
