"""Training on Hugging Face ``Trainer``: resumes bit-exactly, stops on NaN, leaves a run folder."""

from typing import TYPE_CHECKING

from tauten.extras import need
from tauten.lazy import attach

need("tauten.training", "numpy", "transformers", "accelerate", "datasets", "yaml", "safetensors")

if TYPE_CHECKING:
    from tauten.training.evaluation import evaluate
    from tauten.training.options.config import (
        Config,
        DataConfig,
        EvaluationConfig,
        ModelConfig,
        OptimConfig,
    )
    from tauten.training.options.config_tree import from_dict, to_dict
    from tauten.training.options.pretrained import from_model
    from tauten.training.run.result import RunResult, load_result
    from tauten.training.session import train
    from tauten.training.tasks.loading import load_encoder

__all__ = [
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "OptimConfig",
    "RunResult",
    "evaluate",
    "from_dict",
    "from_model",
    "load_encoder",
    "load_result",
    "to_dict",
    "train",
]

__getattr__ = attach(__name__, __file__)
