"""Imports of the optional libraries; an error names the extra that brings them."""

from importlib import import_module
from typing import Any


def require(module: str) -> Any:
    """Import an optional library.

    Args:
        module: dotted name of the module.

    Returns:
        The module.

    Raises:
        ImportError: it is not installed; the message names the extra to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ImportError(
            f"tauten.structure needs {error.name}, which is not installed: "
            'pip install "tauten[structure]"'
        ) from error
