"""Ready parts for other frameworks: one module for each, which is imported when it is used.

A framework that is missing is named with the command that installs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tauten.integrations import accelerate as accelerate
    from tauten.integrations import lightning as lightning
    from tauten.integrations import open_clip as open_clip
    from tauten.integrations import sentence_transformers as sentence_transformers
    from tauten.integrations import transformers as transformers

__all__ = ["accelerate", "lightning", "open_clip", "sentence_transformers", "transformers"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"tauten.integrations.{name}")
    raise AttributeError(f"module 'tauten.integrations' has no attribute {name!r}")
