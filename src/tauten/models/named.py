"""Names of published models: ``clip:NAME``, ``siglip:``, ``hf:``, ``st:`` and ``open_clip:``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tauten.files import expanded
from tauten.models.hf_weights import load_model, read_config
from tauten.models.joint import joint_width
from tauten.models.open_clip import is_open_clip, model_settings
from tauten.models.open_clip import scale_and_bias as open_clip_numbers
from tauten.models.saved import OPEN_CLIP, one_line, saved_file, saved_json

#: who published the models whose names have no owner
_OWNERS = {
    "clip": "openai/clip-",
    "siglip": "google/siglip-",
    "st": "sentence-transformers/",
}
_KINDS = (*_OWNERS, "hf", "open_clip")
_SCALE, _BIAS = "logit_scale", "logit_bias"


def full_name(kind: str, name: str) -> str:
    """Return the name on the hub of a model of this kind, or the folder as it is."""
    alone = "/" not in name and not Path(name).exists() and name != "minilm"
    return f"{_OWNERS[kind]}{name.removeprefix(f'{kind}-')}" if alone else name


def has_kind(name: str) -> bool:
    """Tell a name that begins with one of the kinds, such as ``clip:``, from a place."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind in _KINDS and not Path(name).exists()


def tower_name(name: str, option: str) -> str:
    """Return the name or folder that a tower is read from.

    Args:
        name: as typed; without a kind it stays as it is.
        option: by which it was given, model.image or model.text.

    Raises:
        ValueError: a kind that has no such tower, or a model of another kind.
    """
    if not has_kind(name):
        return name
    kind, _, rest = name.partition(":")
    if not rest:
        raise ValueError(f"{option}={name} names no model: give {kind}:NAME")
    if kind == "open_clip":
        whole = f"{OPEN_CLIP}{open_clip_place(rest)}"
        model_settings(whole)
        return whole
    if kind == "st" and not option.endswith("text"):
        raise ValueError(
            f"{option}={name} embeds texts alone: give it as model.text, and an image model"
        )
    if kind == "hf":
        return rest
    whole = full_name(kind, rest)
    if kind != "st":
        check_kind(whole, kind)
    return whole


def open_clip_place(name: str) -> str:
    """Return the folder or the name on the hub that open_clip's model of this name is read from.

    Args:
        name: a folder, ``hf-hub:ORG/NAME``, ``local-dir:FOLDER``, or ``ARCHITECTURE/WEIGHTS``, for
            which open_clip itself is asked; without it, and for no architecture, ORG/NAME.

    Raises:
        ValueError: an architecture without such weights on the hub.
    """
    schema, colon, rest = name.partition(":")
    if colon and schema in ("hf-hub", "local-dir"):
        return rest
    if expanded(name).is_dir():
        return str(expanded(name))
    try:
        import open_clip as package  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        if "/" in name:
            return name
        raise ImportError(
            f"open_clip:{name}: a name without an owner is one of open_clip's own, which needs the "
            "package: pip install 'tauten[open-clip]'. open_clip:FOLDER and "
            "open_clip:hf-hub:ORG/NAME need none"
        ) from None
    architecture, _, weights = name.partition("/")
    if architecture not in package.list_models():
        return name
    tags = package.list_pretrained_tags_by_model(architecture)
    where = package.get_pretrained_cfg(architecture, weights) if weights in tags else {}
    repository, _, file = str((where or {}).get("hf_hub") or "").rpartition("/")
    if not repository or file:
        raise ValueError(
            f"open_clip:{name}: there are no weights {weights or 'that are not named'} in a "
            f"repository of their own; open_clip has {', '.join(tags) or 'none'}. Others are read "
            "once push_to_hf_hub or save_for_hf of open_clip has saved them: open_clip:FOLDER"
        )
    return repository


def check_kind(name: str, kind: str) -> None:
    """Refuse a model of another type than ``clip`` or ``siglip``.

    Raises:
        ValueError: it is, or no model can be read.
    """
    model_type = str(read_config(name).model_type)
    if not model_type.startswith(kind):
        raise ValueError(f"{name} is a {model_type}, not a {kind}: give hf:{name}")


def joint_name(name: str) -> str:
    """Return the name or folder of a model that embeds pictures and texts in one space.

    Raises:
        ValueError: it is none.
    """
    if name.startswith("st:"):
        raise ValueError(
            f"model={name} embeds texts alone: give it as model.text, and an image model as "
            "model.image"
        )
    whole = tower_name(name, "model")
    if joint_width(read_config(whole)) is None:
        raise ValueError(
            f"model={name} has no common space of pictures and texts, as CLIP and SigLIP have: "
            "give model.image and model.text"
        )
    return whole


def scale_and_bias(name: str | Path) -> tuple[float | None, float | None]:
    """Read the learned temperature of a joint model, exp(-logit_scale), and its bias.

    Args:
        name: on the hub, or a folder.

    Returns:
        Both, None where it has none.
    """
    if is_open_clip(name):
        numbers: dict[str, Any] = open_clip_numbers(name)
    else:
        numbers = {key: _scalar(name, key) for key in (_SCALE, _BIAS)}
        if numbers[_SCALE] is None and saved_file(name, "model.safetensors") is None:
            model, _ = load_model(name)
            numbers = {key: getattr(model, key, None) for key in (_SCALE, _BIAS)}
    scale, bias = (None if v is None else float(v.detach().reshape(())) for v in numbers.values())
    return None if scale is None else float(torch.tensor(-scale).exp()), bias


def _scalar(name: str | Path, key: str) -> Any:
    """Read one number from the weights; None where it is not there, or not in safetensors."""
    from safetensors import SafetensorError, safe_open

    parts = saved_json(name, "model.safetensors.index.json")
    file = "model.safetensors" if parts is None else parts.get("weight_map", {}).get(key)
    path = None if file is None else saved_file(name, file)
    if path is None:
        return None
    try:
        with safe_open(str(path), framework="pt") as weights:
            return weights.get_tensor(key) if key in weights.keys() else None  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {one_line(error)}") from error
