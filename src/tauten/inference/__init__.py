"""Use of a trained model: embeddings of pictures and texts, search, classification."""

from typing import TYPE_CHECKING

from tauten.extras import need
from tauten.lazy import attach

need("tauten.inference", "numpy", "transformers", "accelerate", "datasets", "yaml", "safetensors")

if TYPE_CHECKING:
    from tauten.inference.embedded import Embedded
    from tauten.inference.embedding import embed
    from tauten.inference.evaluating import evaluate_model
    from tauten.inference.exporting import export
    from tauten.inference.files import evaluate_files
    from tauten.inference.loading import load
    from tauten.inference.model import Classified, Model
    from tauten.inference.searching import Found, nearest

__all__ = [
    "Classified",
    "Embedded",
    "Found",
    "Model",
    "embed",
    "evaluate_files",
    "evaluate_model",
    "export",
    "load",
    "nearest",
]

__getattr__ = attach(__name__, __file__)
