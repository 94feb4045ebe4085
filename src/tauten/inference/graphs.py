"""A trained model as graphs that run without tauten: torch.export, and ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.extras import need
from tauten.inference.model import Model
from tauten.models import DualEncoder, FeatureTower
from tauten.models.saved import one_line

#: file of what a graph takes
SETTINGS = "tauten.json"
_PROBES = ["a", "a photo of a red cat on a mat", "Two dogs, 3 birds!"]
_CLOSE = 1e-5

Inputs = tuple[Tensor, ...]
Graph = Callable[[Inputs], Tensor]


class ImageSide(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1], clips or features to embeddings of length 1."""

    def __init__(self, encode: Callable[[Tensor], Tensor], module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._encode = encode

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch."""
        return F.normalize(self._encode(images), dim=1)


class TextSide(nn.Module):
    """Ids and mask (N, L) to embeddings of length 1."""

    def __init__(self, encoder: DualEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed a batch."""
        texts = {"input_ids": input_ids, "attention_mask": attention_mask}
        return F.normalize(self.encoder.encode_text(texts), dim=1)


def write_graphs(model: Model, folder: Path, to: str) -> None:
    """Write a graph for each side, read both again, and check that they embed as the model does.

    Args:
        model: to be written.
        folder: that is there.
        to: "torch-export" or "onnx".

    Raises:
        ImportError: the packages of ONNX are missing.
        ValueError: a model that torch cannot make a graph of, or a graph that embeds otherwise.
    """
    if to == "onnx":
        need("tauten export --to onnx", "onnx", "onnxscript", "onnxruntime")
    suffix, save, read = _FORMATS[to]
    device = model.device
    model.to("cpu")
    try:
        sides = _sides(model)
        for name, (side, inputs, checks, dynamic) in sides.items():
            path = folder / f"{name}.{suffix}"
            try:
                with torch.no_grad():
                    save(side.eval(), inputs, dynamic, path)
            except Exception as error:  # tracing fails with errors of any kind
                raise ValueError(
                    f"{model.name} cannot be exported to {to}: of its {name} side torch makes no "
                    f"graph: {one_line(error)}"
                ) from error
            again = read(path)
            for batch in (inputs, checks):
                with torch.no_grad():
                    wanted = side(*batch)
                if not torch.allclose(again(batch), wanted, rtol=0, atol=_CLOSE):
                    raise ValueError(
                        f"{model.name} cannot be exported to {to}: the graph of its {name} side "
                        "embeds otherwise"
                    )
    finally:
        model.to(device)
    tokenizer = model.towers.tokenizer
    if tokenizer is not None:
        tokenizer.save(folder)
    (folder / SETTINGS).write_text(json.dumps(_settings(model, sides), indent=1), encoding="utf-8")


def _sides(model: Model) -> dict[str, Any]:
    """Return for each side its module, two batches of inputs, and the names of their free sizes."""
    encoder, towers = model.towers.module, model.towers
    sides: dict[str, Any] = {}
    noise = torch.Generator().manual_seed(0)
    batch = torch.export.Dim("batch", min=1, max=4096)
    if towers.images is not None:
        shape = _shape(model)
        two, three = (torch.rand(n, *shape, generator=noise) for n in (2, 3))
        side = ImageSide(towers.images, encoder)
        sides["image"] = (side, (two,), (three,), ({0: batch},))
    if isinstance(encoder, DualEncoder) and towers.tokenizer is not None:
        lists = [towers.tokenizer(texts) for texts in (_PROBES[1:], _PROBES)]
        inputs = [(t["input_ids"], t["attention_mask"]) for t in lists]
        fixed = getattr(towers.tokenizer, "pad_to", None) is not None
        sizes: dict[int, Any] = {0: batch}
        if not fixed:
            most = max(2, int(getattr(towers.tokenizer, "max_length", 4096)))
            sizes[1] = torch.export.Dim("length", min=1, max=most)
            inputs = [(_wider(a, most), _wider(b, most)) for a, b in inputs]
        sides["text"] = (TextSide(encoder), *inputs, (sizes, dict(sizes)))
    if not sides:
        raise ValueError(
            f"{model.name} is no model of pictures and texts of ours: export its run, or a model "
            "of Hugging Face"
        )
    return sides


def _wider(ids: Tensor, most: int) -> Tensor:
    """Return ids of two places at least, so that their number is not taken for fixed."""
    return F.pad(ids, (0, max(0, min(2, most) - ids.shape[1])))


def _shape(model: Model) -> tuple[int, ...]:
    tower = getattr(model.towers.module, "image_tower", None)
    if isinstance(tower, FeatureTower):
        return (tower.dim,)
    size = model.towers.size
    if size is None:
        raise ValueError(f"{model.name} does not say the size of its pictures: export a run")
    clip = (model.towers.frames,) if model.towers.frames else ()
    return (*clip, 3, *size)


def _settings(model: Model, sides: dict[str, Any]) -> dict[str, Any]:
    """Return what a user of the graphs must know of their inputs."""
    size: Any = model.towers.size
    pictures: dict[str, Any] = {"pixels": "float32 in [0, 1], RGB, mean and std are in the graph"}
    if size is not None:
        pictures |= {
            "size": list(size),
            "shorter_side": getattr(size, "edge", None),
            "filter": getattr(size, "resample", "bicubic"),
        }
    inputs = {name: [list(tensor.shape) for tensor in side[1]] for name, side in sides.items()}
    return {"dim": model.dim, "inputs of two": inputs, "pictures": pictures}


def _save_torch(side: nn.Module, inputs: Inputs, dynamic: Any, path: Path) -> None:
    torch.export.save(torch.export.export(side, inputs, dynamic_shapes=dynamic), path)


def _read_torch(path: Path) -> Graph:
    module = torch.export.load(path).module()
    return lambda inputs: torch.as_tensor(module(*inputs))


def _save_onnx(side: nn.Module, inputs: Inputs, dynamic: Any, path: Path) -> None:
    torch.onnx.export(
        side,
        inputs,
        str(path),
        dynamo=True,
        dynamic_shapes=dynamic,
        external_data=False,
        verbose=False,
    )


def _read_onnx(path: Path) -> Graph:
    import onnxruntime  # type: ignore[import-not-found, unused-ignore]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Inputs) -> Tensor:
        arrays = {name: t.numpy() for name, t in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


_FORMATS: dict[str, tuple[str, Callable[..., None], Callable[[Path], Graph]]] = {
    "torch-export": ("pt2", _save_torch, _read_torch),
    "onnx": ("onnx", _save_onnx, _read_onnx),
}
GRAPHS = tuple(_FORMATS)
