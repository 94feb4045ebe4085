"""A trained model in the layouts of other libraries, checked against the model itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn

from tauten.data.sizes import Prepared
from tauten.files import make_folder
from tauten.inference.card import check_push, upload, write_card
from tauten.inference.graphs import GRAPHS, write_graphs
from tauten.inference.loading import load
from tauten.inference.model import Model
from tauten.inference.open_clip_layout import name_tokenizer, write_open_clip
from tauten.models import DualEncoder, HFImageTower, HFTextTower, HFTokenizer
from tauten.models.saved import one_line

Library = Literal["sentence-transformers", "transformers", "open_clip", "torch-export", "onnx"]
_PROBES = ["a", "a photo of a red cat on a mat", "Two dogs, 3 birds!"]
_POOLINGS = {
    "first": "cls_token",
    "last": "lasttoken",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len": "mean_sqrt_len_tokens",
    "weighted_mean": "weightedmean_tokens",
}
_RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def export(
    model: str | Path | Model,
    output: str | Path,
    to: Library = "sentence-transformers",
    *,
    push: str | None = None,
    private: bool = True,
) -> Path:
    """Write a trained model as another library reads it, and check that the embeddings are equal.

    Args:
        model: a run, or what :func:`tauten.load` takes.
        output: folder written to, new or empty.
        to: "sentence-transformers" has the text tower with its projection, in the common space;
            "transformers" both towers as a VisionTextDualEncoderModel, with the settings of its
            image processor; "open_clip" the layout that open_clip reads, for towers of CLIP, which
            are those of a run that started from a CLIP; "torch-export" and "onnx" a graph of each
            side, of any towers.
        push: name on the Hugging Face hub, ORG/NAME, that the folder is then uploaded to.
        private: whether a repository that is made for it is private.

    Returns:
        The folder. It has a model card, ``README.md``, with the numbers and protocol of the run.

    Raises:
        ImportError: packages of ONNX are missing.
        ValueError: towers that the library cannot express, an output that is not empty, or a hub
            that cannot be written to.
    """
    if to not in (*_WRITERS, *GRAPHS):
        raise ValueError(f"to is one of {', '.join((*_WRITERS, *GRAPHS))}, got {to!r}")
    if push is not None:
        check_push(push)
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output {folder} is not an empty folder: choose another output")
    loaded = model if isinstance(model, Model) else load(model)
    made = make_folder(folder)
    try:
        if to in GRAPHS:
            write_graphs(loaded, folder, to)
        else:
            _write_layout(loaded, folder, to)
        write_card(loaded, folder, to)
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in made:
            path.rmdir()
        raise
    if push is not None:
        if to == "open_clip":
            name_tokenizer(folder, push)
        upload(folder, push, private)
    return folder


def _write_layout(loaded: Model, folder: Path, to: str) -> None:
    """Write the layout of a library, and read it again to compare."""
    if loaded.towers.texts is None:
        raise ValueError(f"{loaded.name} cannot be exported to {to}: it does not embed texts")
    encoder, tokenizer = loaded.towers.module, loaded.towers.tokenizer
    text = getattr(encoder, "text_tower", None)
    if not (
        isinstance(encoder, DualEncoder)
        and isinstance(text, HFTextTower)
        and isinstance(tokenizer, HFTokenizer)
    ):
        raise ValueError(
            f"{loaded.name} cannot be exported to {to}: its text tower is "
            f"{type(text).__name__ if text else 'none of ours'}, not a Hugging Face model; train "
            "with model.text, such as minilm, or export to torch-export or onnx"
        )
    _WRITERS[to](loaded, encoder, text, tokenizer, folder)
    _check(loaded, load(f"open_clip:{folder}" if to == "open_clip" else folder), to)


def _check(model: Model, again: Model, to: str) -> None:
    """Refuse an export whose embeddings are others."""
    pairs = [(model.encode_text(_PROBES), again.encode_text(_PROBES))]
    if to != "sentence-transformers":
        noise = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
        pairs.append((model.encode_image(noise), again.encode_image(noise)))
    for ours, theirs in pairs:
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=0, atol=1e-5):
            raise ValueError(
                f"{model.name} cannot be exported to {to}: what it loads embeds otherwise, as its "
                "towers do something that its layout does not tell (pooling or padding)"
            )


def _sentence(
    model: Model, encoder: DualEncoder, text: HFTextTower, tokenizer: HFTokenizer, folder: Path
) -> None:
    """Write a Transformer, Pooling, Dense layers and Normalize."""
    text.model.save_pretrained(folder)
    tokenizer.tokenizer.save_pretrained(folder)
    cut = {"max_seq_length": tokenizer.max_length, "do_lower_case": tokenizer.lower}
    _write(folder / "sentence_bert_config.json", cut)
    pooling, dense = _pooled(text, model.name)
    if text.dense:
        linear = [layer for layer in text.head if isinstance(layer, nn.Linear)]
        names = [str(layer["activation"]) for layer in text.dense]
        dense += list(zip(linear, names, strict=True))
    dense.append((encoder.text_projection, "Identity"))
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), "Normalize"]
    paths = ["", *(f"{place}_{kind}" for place, kind in enumerate(kinds[1:], 1))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    for path in paths[1:]:
        (folder / path).mkdir()
    width = getattr(text.model.config, "hidden_size", None) or encoder.text_projection.in_features
    switches = {f"pooling_mode_{name}": name == pooling for name in _POOLINGS.values()}
    _write(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **switches})
    for (layer, activation), path in zip(dense, paths[2:], strict=False):
        settings = {
            "in_features": layer.in_features,
            "out_features": layer.out_features,
            "bias": layer.bias is not None,
            "activation_function": _place_of(activation),
        }
        _write(folder / path / "config.json", settings)
        weights = {f"linear.{name}": value.cpu() for name, value in layer.state_dict().items()}
        save_file(weights, folder / path / "model.safetensors")
    _write(folder / "modules.json", modules)


def _place_of(activation: str) -> str:
    kind = getattr(nn, activation)
    return f"{kind.__module__}.{kind.__name__}"


def _pooled(text: HFTextTower, name: str) -> tuple[str, list[tuple[nn.Linear, str]]]:
    """Return the pooling over tokens, and the layers that stand for a model's own pooler."""
    if text.pooling in _POOLINGS:
        return _POOLINGS[text.pooling], []
    if text.model.config.model_type == "clip_text_model":
        return "lasttoken", []  # the end of the text, which is the last token that is no padding
    pooler = getattr(text.model, "pooler", None)
    if pooler is None and text.pooling == "auto":
        return "mean_tokens", []
    layer = getattr(pooler, "dense", None)
    if isinstance(layer, nn.Linear):
        return "cls_token", [(layer, "Tanh")]
    raise ValueError(
        f"{name} cannot be exported to sentence-transformers: the pooler of its "
        f"{type(text.model).__name__} has no counterpart there; train with model.text_pooling=mean"
    )


def _dual(
    model: Model, encoder: DualEncoder, text: HFTextTower, tokenizer: HFTokenizer, folder: Path
) -> None:
    """Write a VisionTextDualEncoderModel with its tokenizer and processor."""
    from transformers import VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    image, how = encoder.image_tower, model.towers.size
    if not isinstance(image, HFImageTower) or how is None or text.dense:
        raise ValueError(
            f"{model.name} cannot be exported to transformers: its towers are "
            f"{type(image).__name__} and {type(text).__name__}, and a VisionTextDualEncoderModel "
            "has two Hugging Face models with a pooler; to=sentence-transformers takes the texts"
        )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        image.model.config, text.model.config, projection_dim=encoder.dim
    )
    try:
        whole = VisionTextDualEncoderModel(config, image.model, text.model)
    except Exception as error:  # models of any kind
        raise ValueError(
            f"{model.name} cannot be exported to transformers: {one_line(error)}"
        ) from error
    whole.visual_projection.weight.data.copy_(encoder.image_projection.weight)
    whole.text_projection.weight.data.copy_(encoder.text_projection.weight)
    whole.save_pretrained(folder)
    tokenizer.save(folder)
    _write(folder / "preprocessor_config.json", _processor(image, how))


def _processor(image: HFImageTower, how: tuple[int, int]) -> Mapping[str, Any]:
    """Return the settings of an image processor that does what our preparation does."""
    edge, filter_ = (how.edge, how.resample) if isinstance(how, Prepared) else (None, "bicubic")
    square = {"height": how[0], "width": how[1]}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": _RESAMPLING[filter_],
        "size": square if edge is None else {"shortest_edge": edge},
        "do_center_crop": edge is not None,
        **({} if edge is None else {"crop_size": square}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": image.mean.flatten().tolist(),
        "image_std": image.std.flatten().tolist(),
        **({"do_flip_channel_order": True} if image.bgr else {}),
    }


def _write(path: Path, settings: Any) -> None:
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")


_WRITERS: dict[str, Callable[[Model, DualEncoder, HFTextTower, HFTokenizer, Path], None]] = {
    "sentence-transformers": _sentence,
    "transformers": _dual,
    "open_clip": write_open_clip,
}
