"""Training on Hugging Face ``Trainer``: resumes bit-exactly, stops on NaN, leaves a run folder."""

from tauten.extras import need

need("tauten.training", "numpy", "transformers", "accelerate", "datasets", "yaml", "safetensors")

from tauten.training.config import (
    Config,
    ControlConfig,
    DataConfig,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
)
from tauten.training.config_tree import from_dict, to_dict
from tauten.training.evaluate import evaluate
from tauten.training.results import load_encoder
from tauten.training.train import RunResult, load_result, train

__all__ = [
    "Config",
    "ControlConfig",
    "DataConfig",
    "EvaluationConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "RunResult",
    "evaluate",
    "from_dict",
    "load_encoder",
    "load_result",
    "to_dict",
    "train",
]
