"""A trained model in open_clip's layout, for towers that open_clip has: those of CLIP."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tauten.data.sizes import Prepared
from tauten.files import read_arrays, read_tensors
from tauten.inference.model import Model
from tauten.models import DualEncoder, FeatureTower, HFImageTower, HFTextTower, HFTokenizer
from tauten.models.clip_names import TEXT, VISION, named_back
from tauten.models.named import has_kind, scale_and_bias, tower_name
from tauten.models.open_clip import CONFIG, WEIGHTS
from tauten.models.saved import OPEN_CLIP
from tauten.training.evaluation import find_checkpoint
from tauten.training.run.names import SAMPLES

_KINDS = {"clip_vision_model", "clip_text_model"}
#: tokens of CLIP's vocabulary, which open_clip has itself
_CLIP_TOKENS = 49408
#: the end of a text that transformers takes for the largest id
_LARGEST = 2
#: of open_clip's layer norms
_EPS = 1e-5
_BIAS = "loss_fn.bias.parameter"


def write_open_clip(
    model: Model, encoder: DualEncoder, text: HFTextTower, tokenizer: HFTokenizer, folder: Path
) -> None:
    """Write ``open_clip_config.json``, the weights and the tokenizer.

    The number of places becomes that of the tokens kept of a text, so that both cut alike.

    Args:
        model: to be written.
        encoder: its towers and projections.
        text: its text tower.
        tokenizer: tokenizer of the text tower.
        folder: that is there.

    Raises:
        ValueError: towers or pictures that open_clip does not have.
    """
    image, how = encoder.image_tower, model.towers.size
    reason = _reason(image, text, tokenizer, how)
    if reason is not None:
        raise ValueError(
            f"{model.name} cannot be exported to open_clip: {reason}. A run that started from "
            "open_clip:, clip: or another CLIP can be (tauten train --model); of this one "
            f"{_others(image, text, how)}"
        )
    assert isinstance(image, HFImageTower)
    scale, bias = _scale_and_bias(model)
    config = _config(encoder, image, text, tokenizer, folder.name)
    if bias is not None:
        config["model_cfg"]["init_logit_bias"] = bias
    config["preprocess_cfg"] |= {
        "resize_mode": "shortest" if getattr(how, "edge", None) else "squash",
        "interpolation": how.resample if isinstance(how, Prepared) else "bicubic",
    }
    state = _state(encoder, image, text, tokenizer.max_length)
    state["logit_scale"] = torch.tensor(math.log(scale))
    if bias is not None:
        state["logit_bias"] = torch.tensor(bias)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    save_file(tensors, folder / WEIGHTS[0], metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    tokenizer.tokenizer.save_pretrained(folder)


def name_tokenizer(folder: Path, name: str) -> None:
    """Let a model's own tokenizer be found under the name that it is uploaded to.

    Args:
        folder: folder of the export.
        name: on the hub.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    text = config["model_cfg"]["text_cfg"]
    if "hf_tokenizer_name" in text:
        text["hf_tokenizer_name"] = name
        (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def _others(image: Any, text: HFTextTower, how: Any) -> str:
    """Say which formats take such towers."""
    pooled = {getattr(image, "pooling", None), text.pooling} <= {"auto", "pooler"}
    dual = isinstance(image, HFImageTower) and how and pooled and not text.dense
    both = ["to=transformers"] if dual else []
    both += ["to=torch-export", "to=onnx"] if how or isinstance(image, FeatureTower) else []
    sides = f"{', '.join(both)} take both sides, " if both else ""
    return f"{sides}to=sentence-transformers takes the texts"


def _reason(image: Any, text: HFTextTower, tokenizer: HFTokenizer, how: Any) -> str | None:
    """Say why open_clip has no such towers; None where it has."""
    kinds: list[Any] = [getattr(getattr(t, "model", t), "config", t) for t in (image, text)]
    types = [getattr(kind, "model_type", type(kind).__name__) for kind in kinds]
    if set(types) != _KINDS or text.dense or tokenizer.lower:
        return f"its towers are {' and '.join(map(str, types))}, and open_clip's are those of CLIP"
    vision, words = kinds
    poolings = {image.pooling, text.pooling} - {"auto", "pooler"}
    if poolings:
        return f"its tokens are pooled by {' and '.join(sorted(poolings))}"
    if vision.hidden_act != words.hidden_act or vision.hidden_act not in ("gelu", "quick_gelu"):
        return f"its activations are {vision.hidden_act} and {words.hidden_act}"
    if how is None or how[0] != vision.image_size:
        return f"its pictures have {how and how[0]} pixels, its tower {vision.image_size}"
    edge = getattr(how, "edge", None)
    if edge not in (None, how[0]) or getattr(how, "resample", "bicubic") not in (
        "bicubic",
        "bilinear",
    ):
        return (
            f"its pictures are scaled to {edge or how[0]} pixels by {how.resample} and cut to "
            f"{how[0]}, and open_clip scales to what it cuts, bicubic or bilinear"
        )
    return None


def _config(
    encoder: DualEncoder,
    image: HFImageTower,
    text: HFTextTower,
    tokenizer: HFTokenizer,
    name: str,
) -> dict[str, Any]:
    vision, words = image.model.config, text.model.config
    end = words.eos_token_id
    pooled = {} if end == _LARGEST else {"pool_type": "eos", "eos_id": end}
    named = {} if tokenizer.vocabulary_size == _CLIP_TOKENS else {"hf_tokenizer_name": name}
    model = {
        "embed_dim": encoder.dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            **_tower(vision),
        },
        "text_cfg": {
            "context_length": min(tokenizer.max_length, words.max_position_embeddings),
            "vocab_size": words.vocab_size,
            "heads": words.num_attention_heads,
            **_tower(words),
            **pooled,
            **named,
        },
    }
    pixels = {"mean": image.mean.flatten().tolist(), "std": image.std.flatten().tolist()}
    return {"model_cfg": model, "preprocess_cfg": pixels}


def _tower(config: Any) -> dict[str, Any]:
    ratio = config.intermediate_size / config.hidden_size
    if int(config.hidden_size * ratio) < config.intermediate_size:
        ratio = math.nextafter(ratio, math.inf)
    eps = config.layer_norm_eps
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "mlp_ratio": ratio,
        **({} if eps == _EPS else {"norm_kwargs": {"eps": eps}}),
    }


def _state(
    encoder: DualEncoder, image: HFImageTower, text: HFTextTower, places: int
) -> dict[str, Tensor]:
    inside = named_back(image.model.state_dict(), VISION)
    words = named_back(text.model.state_dict(), TEXT)
    words["positional_embedding"] = words["positional_embedding"][:places]
    return {
        **{f"visual.{name}": value for name, value in inside.items()},
        "visual.proj": encoder.image_projection.weight.T,
        **words,
        "text_projection": encoder.text_projection.weight.T,
    }


def _scale_and_bias(model: Model) -> tuple[float, float | None]:
    """Return the inverse of the mean temperature at the end of a run, and its bias, if it has one.

    Of a model that is no run, they are its own; without any it is CLIP's scale at its start.
    """
    if model.data is None:
        place = _place(model.name)
        tau, bias = (None, None) if place is None else scale_and_bias(place)
        return 1 / (tau or 0.07), bias
    checkpoint, run = find_checkpoint(Path(model.name))
    config = run.config()
    stored = read_tensors(checkpoint / "model.safetensors")
    bias = float(stored[_BIAS]) if _BIAS in stored else None
    samples = run.path / SAMPLES
    if config.loss.strength != "temperature" or not samples.is_file():
        return 1 / 0.07, bias
    return 1 / float(read_arrays(samples)["tau_final"].mean()), bias


def _place(name: str) -> str | None:
    """Return where a model that is no run was loaded from; None where that is not known."""
    if has_kind(name):
        return tower_name(name, "model.image")
    if (Path(name) / CONFIG).is_file():
        return f"{OPEN_CLIP}{name}"
    return name if Path(name).is_dir() else None
