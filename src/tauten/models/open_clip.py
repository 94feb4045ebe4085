"""Models in open_clip's layout, read as the CLIP of transformers, without the package open_clip.

A folder or a repository of the hub holds ``open_clip_config.json`` and the weights. Read are vision
transformers with a class token beside causal text transformers, such as ViT-B-32.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from tauten.files import need, read_tensors
from tauten.models.clip_names import TEXT, VISION, named
from tauten.models.saved import OPEN_CLIP, one_line, saved_file, saved_json

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_PICKLED = "open_clip_pytorch_model.bin"
#: mean and std of pixels where the configuration has none
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: at 2 transformers pools at the largest id, as open_clip does by default
_LARGEST = 2

_TOWER = {"layers", "width", "mlp_ratio", "norm_kwargs"}
_READ = {
    "vision_cfg": _TOWER | {"image_size", "head_width", "patch_size"},
    "text_cfg": _TOWER
    | {"context_length", "vocab_size", "heads", "pool_type", "eos_id", "hf_tokenizer_name"},
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"}
    | {"init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "output_dict"},
}
#: of no meaning for embeddings, or only beside an option that is refused
_UNUSED = {"output_tokens", "patch_dropout", "pad_id", "attn_pooler_queries", "attn_pooler_heads"}
_USUAL = {"pool_type": "tok", "pos_embed_type": "learnable", "proj_type": "linear"}
_REFUSED = {
    "timm_model_name": "its pictures go through a model of timm",
    "hf_model_name": "its texts go through a model of Hugging Face",
    "multimodal_cfg": "it is a CoCa, with a decoder of captions",
}


def is_open_clip(name: str | Path) -> bool:
    """Tell the name of a model that is to be read in open_clip's layout."""
    return str(name).startswith(OPEN_CLIP)


def has_layout(name: str | Path) -> bool:
    """Tell whether a folder, or a repository of the hub, is in open_clip's layout."""
    return saved_file(name, CONFIG) is not None


def model_settings(name: str | Path) -> dict[str, Any]:
    """Read and check the part of open_clip's configuration that describes the model.

    Args:
        name: a folder or a name on the hub, with or without ``open_clip:``.

    Raises:
        ValueError: there is none, or a model of another kind.
    """
    whole = _config(name)
    need(whole, {"model_cfg": dict}, f"{name}: {CONFIG}")
    settings: dict[str, Any] = whole["model_cfg"]
    need(settings, {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}, f"{name}: {CONFIG}")
    for part in ("model_cfg", "vision_cfg", "text_cfg"):
        _check_part(settings if part == "model_cfg" else settings[part], part, name)
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    if isinstance(vision.get("layers"), list):
        raise ValueError(_other(name, "its pictures go through a residual network"))
    if not isinstance(vision.get("image_size", 224), int):
        raise ValueError(_other(name, f"vision_cfg.image_size={vision['image_size']} is no square"))
    pooled, end = text.get("pool_type", "argmax"), text.get("eos_id", 2)
    if pooled not in ("argmax", "eos") or (pooled == "eos" and end == _LARGEST):
        raise ValueError(_other(name, f"text_cfg.pool_type={pooled} with eos_id={end}"))
    for part, tower in (("vision_cfg", vision), ("text_cfg", text)):
        if tower.get("norm_kwargs") and set(tower["norm_kwargs"]) != {"eps"}:
            raise ValueError(_other(name, f"{part}.norm_kwargs={tower['norm_kwargs']}"))
    return settings


def picture_settings(name: str | Path) -> dict[str, Any]:
    """Return mean, std, size, edge, filter and crop of a model's pictures.

    Raises:
        ValueError: pictures that are padded.
    """
    size = model_settings(name)["vision_cfg"].get("image_size", 224)
    pixels = _config(name).get("preprocess_cfg") or {}
    mode = pixels.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash"):
        raise ValueError(_other(name, f"preprocess_cfg.resize_mode={mode} pads its pictures"))
    return {
        "mean": tuple(pixels.get("mean") or MEAN),
        "std": tuple(pixels.get("std") or STD),
        "size": size,
        "edge": size if mode == "shortest" else None,
        "resample": "bilinear" if pixels.get("interpolation") == "bilinear" else "bicubic",
        "crop": "even",
    }


def clip_config(name: str | Path) -> CLIPConfig:
    """Read a configuration as that of transformers' CLIP.

    Raises:
        ValueError: there is none, or a model of another kind.
    """
    settings = model_settings(name)
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    act = "quick_gelu" if settings.get("quick_gelu") else "gelu"
    dim, width = settings["embed_dim"], vision.get("width", 768)
    image = {
        "num_attention_heads": width // vision.get("head_width", 64),
        "image_size": vision.get("image_size", 224),
        "patch_size": vision.get("patch_size", 16),
        **_tower(vision, width, act, dim),
    }
    size = text.get("vocab_size", 49408)
    words = {
        "num_attention_heads": text.get("heads", 8),
        "vocab_size": size,
        "max_position_embeddings": text.get("context_length", 77),
        "bos_token_id": max(size - 2, 0),
        "eos_token_id": _LARGEST if text.get("pool_type", "argmax") == "argmax" else text["eos_id"],
        "pad_token_id": text.get("pad_id", 0),
        **_tower(text, text.get("width", 512), act, dim),
    }
    try:
        return CLIPConfig(vision_config=image, text_config=words, projection_dim=dim)
    except Exception as error:  # numbers of other kinds
        raise ValueError(f"{name}: {CONFIG} is damaged: {one_line(error)}") from error


def clip_model(name: str | Path) -> Any:
    """Read a model with its weights, in torch's default type.

    Raises:
        ValueError: no weights, or other ones than the configuration says.
    """
    config, state = clip_config(name), _weights(name)
    with torch.random.fork_rng(devices=[]):
        model = CLIPModel(config).to(torch.get_default_dtype())
    try:
        model.load_state_dict(_as_transformers(state))
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"{name}: its weights are not those of its {CONFIG}: {one_line(error)}"
        ) from error
    return model


def scale_and_bias(name: str | Path) -> dict[str, Tensor | None]:
    """Return the logarithm of a model's scale, and its bias; None where it has none."""
    state = _weights(name)
    return {key: state.get(key) for key in ("logit_scale", "logit_bias")}


def _config(name: str | Path) -> dict[str, Any]:
    config = saved_json(name, CONFIG)
    if config is None:
        raise ValueError(
            f"{name} has no {CONFIG} (on the hub: or there is no such name, or no network), "
            "so that it is no model in open_clip's layout: give a folder, "
            "open_clip:hf-hub:ORG/NAME, or open_clip:ARCHITECTURE/WEIGHTS, which needs open_clip "
            "itself (pip install 'tauten[open-clip]')"
        )
    return dict(config)


def _check_part(part: Mapping[str, Any], where: str, name: str | Path) -> None:
    """Refuse options that transformers' CLIP does not have."""
    for option, value in part.items():
        usual = _USUAL.get(option)
        if option in _READ[where] or option in _UNUSED or not value or value == usual:
            continue
        if option.startswith(("timm_", "hf_")) and option not in _REFUSED:
            continue
        raise ValueError(_other(name, _REFUSED.get(option, f"{where}.{option}={value}")))


def _other(name: str | Path, reason: str) -> str:
    return (
        f"{name} cannot be read here: {reason}. Read are a vision transformer with a class token "
        "and a causal text transformer, as ViT-B-32; with open_clip itself tauten embed and "
        "evaluate take any of its models"
    )


def _tower(settings: Mapping[str, Any], width: int, act: str, dim: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": int(width * settings.get("mlp_ratio", 4.0)),
        "num_hidden_layers": settings.get("layers", 12),
        "hidden_act": act,
        "layer_norm_eps": (settings.get("norm_kwargs") or {}).get("eps", 1e-5),
        "projection_dim": dim,
    }


def _weights(name: str | Path) -> dict[str, Tensor]:
    """Return the weights under open_clip's names, those of a text tower of its own too."""
    weights = next((path for file in WEIGHTS if (path := saved_file(name, file))), None)
    if weights is not None:
        state: Any = read_tensors(weights)
    else:
        path = saved_file(name, _PICKLED)
        if path is None:
            raise ValueError(f"{name} has no weights: none of {', '.join((*WEIGHTS, _PICKLED))}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = {str(key): torch.as_tensor(value) for key, value in state.items()}
        except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {one_line(error)}") from error
    return {key.removeprefix("text."): value for key, value in state.items()}


def _as_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of transformers' CLIP."""
    inside = {key.removeprefix("visual."): v for key, v in state.items() if key[:7] == "visual."}
    texts = {key: v for key, v in state.items() if key[:7] != "visual."}
    scale = texts.pop("logit_scale")
    for unused in ("logit_bias", "attn_mask"):
        texts.pop(unused, None)
    return {
        "logit_scale": scale.reshape(()),
        "visual_projection.weight": inside.pop("proj").T.contiguous(),
        "text_projection.weight": texts.pop("text_projection").T.contiguous(),
        **{f"vision_model.{key}": value for key, value in named(inside, VISION).items()},
        **{f"text_model.{key}": value for key, value in named(texts, TEXT).items()},
    }
