"""Temperature and margin control for contrastive learning on long-tailed data.

Every control, loss and table is an attribute of this package, and so are the packages beside them.
They are imported when they are first used: the command line answers before torch is loaded.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tauten.extras import explained

if TYPE_CHECKING:
    from tauten import candidates as candidates
    from tauten import comparison as comparison
    from tauten import data as data
    from tauten import evaluation as evaluation
    from tauten import inference as inference
    from tauten import integrations as integrations
    from tauten import models as models
    from tauten import recipes as recipes
    from tauten import relations as relations
    from tauten import report as report
    from tauten import structure as structure
    from tauten import terms as terms
    from tauten import training as training
    from tauten.controls import *  # noqa: F403
    from tauten.inference import load as load
    from tauten.losses import *  # noqa: F403
    from tauten.state import SampleTable as SampleTable

__version__ = "0.1.0"

#: packages that are attributes of this one
_PACKAGES = (
    "candidates",
    "comparison",
    "data",
    "evaluation",
    "inference",
    "integrations",
    "models",
    "recipes",
    "relations",
    "report",
    "structure",
    "terms",
    "training",
)
#: modules of which everything in __all__ is an attribute of this one
_EXPORTING = ("controls", "losses", "state")
#: functions of packages that need more than torch
_FUNCTIONS = {"load": "inference"}


def _exporting() -> list[ModuleType]:
    return [import_module(f"tauten.{name}") for name in _EXPORTING]


def __getattr__(name: str) -> Any:
    if name == "__all__":
        exported = {name for module in _exporting() for name in module.__all__}
        return sorted({*_PACKAGES, *_FUNCTIONS, *exported})
    if name in _PACKAGES or name in _FUNCTIONS:
        try:
            package = import_module(f"tauten.{_FUNCTIONS.get(name, name)}")
            return getattr(package, name) if name in _FUNCTIONS else package
        except ModuleNotFoundError as error:
            raise explained(f"tauten.{name}", error) from error
    if not name.startswith("_"):
        for module in _exporting():
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'tauten' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
