"""Settings that sentence-transformers saves with a text model: pooling, layers, place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tauten.files import need
from tauten.models.pooling import Pooling
from tauten.models.saved import logger, one_line, saved_file, saved_json

_MODES: dict[str, Pooling] = {
    "cls": "first",
    "cls_token": "first",
    "max": "max",
    "max_tokens": "max",
    "mean": "mean",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "weightedmean_tokens": "weighted_mean",
    "lasttoken": "last",
}
_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")


@dataclass(frozen=True)
class SentenceSettings:
    """Settings by which a sentence encoder makes one vector of its tokens.

    Attributes:
        folder: folder of the transformer inside the model; "" is the model's own folder.
        pooling: over tokens; None: nothing is said.
        dense: layers after it, as ``DenseLayers`` takes them.
        weights: weights of those layers.
        lower: texts are put into lower case.
        max_length: tokens that it takes of a text; None: nothing is said.
    """

    folder: str = ""
    pooling: Pooling | None = None
    dense: tuple[dict[str, Any], ...] = ()
    weights: tuple[Mapping[str, Tensor], ...] = ()
    lower: bool = False
    max_length: int | None = None


class DenseLayers(nn.Sequential):
    """Linear layers with their activations.

    Args:
        layers: of each ``inputs``, ``outputs``, ``bias`` and ``activation``, a class of torch.nn.
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        for layer in layers:
            self.append(nn.Linear(layer["inputs"], layer["outputs"], bias=layer["bias"]))
            self.append(getattr(nn, layer["activation"])())


def sentence_settings(
    name: str | Path, pooling: Pooling = "auto", **place: Any
) -> SentenceSettings:
    """Read the modules of a sentence encoder, as saved by sentence-transformers 1 to 6.

    Args:
        name: folder of the model, or its name on the hub.
        pooling: takes the place of the saved one, unless it is "auto".
        **place: arguments of ``from_pretrained``.

    Raises:
        ValueError: a module, a pooling or an activation that cannot be honoured, by its name.
    """
    modules = saved_json(name, "modules.json", list, **place)
    if modules is None:
        saved = saved_json(name, "1_Pooling/config.json", **place)
        return SentenceSettings(pooling=None if saved is None else _pooling(saved, name, pooling))
    for module in modules or [None]:
        need(module, {"type": str, "path": str}, f"{name}: modules.json")
    kinds = [(module["type"].rpartition(".")[2], module["path"]) for module in modules]
    if kinds[0][0] != "Transformer":
        raise ValueError(f"{name} begins with the module {kinds[0][0]}: it cannot be a text tower")
    settings: dict[str, Any] = {"folder": kinds[0][1], "dense": (), "weights": ()}
    tokenizing = saved_json(name, f"{_inside(kinds[0][1])}sentence_bert_config.json", **place) or {}
    settings["lower"] = bool(tokenizing.get("do_lower_case"))
    settings["max_length"] = tokenizing.get("max_seq_length")
    _tell_of_prompt(name, saved_json(name, "config_sentence_transformers.json", **place) or {})
    for position, (kind, path) in enumerate(kinds[1:], 1):
        config = saved_json(name, f"{_inside(path)}config.json", **place) or {}
        if kind == "Pooling":
            settings["pooling"] = _pooling(config, name, pooling)
        elif kind == "Dense":
            settings["dense"] += (_dense(config, name),)
            settings["weights"] += (_weights(name, path, place),)
        # the last module: no direction changes
        elif kind != "Normalize" or position < len(kinds) - 1:
            raise ValueError(
                f"{name} has the module {kind} at position {position}: a text tower takes a "
                "Transformer, Pooling, Dense layers and a Normalize at the end"
            )
    return SentenceSettings(**settings)


def _tell_of_prompt(name: str | Path, saved: Mapping[str, Any]) -> None:
    """Name the words that the encoder itself puts before every text."""
    prompts = saved.get("prompts") or {}
    prompt = prompts.get(saved.get("default_prompt_name"))
    if prompt:
        logger.warning(
            "%s puts %r before every text by itself; captions are taken as they are: where that "
            "matters, write it before them",
            name,
            prompt,
        )


def _inside(path: str) -> str:
    return f"{path}/" if path else ""


def _pooling(config: Mapping[str, Any], name: str | Path, asked: Pooling) -> Pooling:
    """Return the pooling of a config, which names it (6) or has a switch for each (1 to 5)."""
    if asked != "auto":
        return asked
    said = config.get("pooling_mode")
    if said is None:
        switches = [key for key, value in config.items() if key.startswith("pooling_mode_")]
        said = [key.removeprefix("pooling_mode_") for key in switches if config[key] is True]
    modes = [said] if isinstance(said, str) else list(said or ["mean"])
    if len(modes) != 1 or modes[0] not in _MODES:
        raise ValueError(
            f"{name} pools its tokens by {' and '.join(modes)}: a text tower takes one of "
            f"{', '.join(sorted(_MODES))}; give another pooling with model.text_pooling, or "
            "another model"
        )
    return _MODES[modes[0]]


def _dense(config: Mapping[str, Any], name: str | Path) -> dict[str, Any]:
    activation = str(config.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2]
    place = config.get("module_input_name", "sentence_embedding")
    residual = config.get("use_residual")
    if activation not in _ACTIVATIONS or place != "sentence_embedding" or residual:
        raise ValueError(
            f"{name} has a Dense layer of {place} with {config.get('activation_function')}"
            f"{' and a residual' if residual else ''}: a text tower takes one of the pooled vector "
            f"with {', '.join(_ACTIVATIONS)}"
        )
    need(config, {"in_features": int, "out_features": int}, f"{name}: config.json of a Dense layer")
    return {
        "inputs": int(config["in_features"]),
        "outputs": int(config["out_features"]),
        "bias": bool(config.get("bias", True)),
        "activation": activation,
    }


def _weights(name: str | Path, path: str, place: Mapping[str, Any]) -> Mapping[str, Tensor]:
    safe = saved_file(name, f"{path}/model.safetensors", **place)
    file = safe or saved_file(name, f"{path}/pytorch_model.bin", **place)
    if file is None:
        raise ValueError(f"{name} has no weights of its Dense layer {path}")
    tensors: Mapping[str, Tensor]
    try:
        tensors = load_file(safe) if safe else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # damaged files, and pickles of other things
        raise ValueError(f"{file} cannot be read: {one_line(error)}") from error
    return {key.removeprefix("linear."): value for key, value in tensors.items()}
