"""The model card of an export, and its way to the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tauten.files import read_sealed
from tauten.inference.model import Model
from tauten.models.saved import one_line
from tauten.outcome import GROUPS
from tauten.training import checkpoints
from tauten.training.run.names import RESULTS

CARD = "README.md"
_ROWS = (
    *(f"{way}/hit@{k}" for way in ("x2y", "y2x") for k in (1, 5, 10)),
    *("mean_recall", "knn@1", "knn@10", "linear_lt", "linear_fs"),
)
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_LIBRARIES = {"sentence-transformers", "transformers", "open_clip", "onnx"}
_USE = {
    "sentence-transformers": """from sentence_transformers import SentenceTransformer

y = SentenceTransformer("FOLDER").encode(["a caption"])""",
    "transformers": """import tauten as tt

model = tt.load("FOLDER")                     # or transformers.AutoModel.from_pretrained
x, y = model.encode_image(["a.jpg"]), model.encode_text(["a caption"])""",
    "open_clip": """import open_clip

model, prepare = open_clip.create_model_from_pretrained("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
y = model.encode_text(tokenizer(["a caption"]), normalize=True)""",
    "torch-export": """import torch

image = torch.export.load("FOLDER/image.pt2").module()
x = image(torch.rand(2, 3, 224, 224))         # see tauten.json for the size""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/image.onnx")
(x,) = session.run(None, {session.get_inputs()[0].name: pixels})   # see tauten.json""",
}


def write_card(model: Model, folder: Path, to: str) -> None:
    """Write ``README.md``: what the model is, how to use it, and the numbers of its run.

    Args:
        model: exported.
        folder: folder of the export.
        to: its format.
    """
    results = _results(Path(model.name))
    head = ["---", "tags:", "- tauten", "- contrastive-learning", "- image-text-retrieval"]
    head += [f"library_name: {to}"] if to in _LIBRARIES else []
    lines = [*head, "---", "", f"# {Path(model.name).name}", ""]
    lines += [
        f"Embeds {_sides(model)} as vectors of {model.dim} numbers and length 1; the cosine of two "
        f"is their similarity. Exported to {to} by tauten.",
        "",
        "```python",
        _USE[to].replace("FOLDER", folder.name),
        "```",
        "",
    ]
    if results is None:
        lines.append(
            "No numbers are known here: it was not exported from a finished run of tauten."
        )
    else:
        lines += _training(results) + _numbers(results["test"]) + _protocol(results)
    (folder / CARD).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _sides(model: Model) -> str:
    sides = {"images": model.towers.images, "texts": model.towers.texts}
    return " and ".join(name for name, side in sides.items() if side is not None)


def _results(place: Path) -> dict[str, Any] | None:
    """Return the results of the run, of which the model is the best checkpoint; None for others."""
    inside = (place / checkpoints.MARKER).exists()
    run = place.resolve().parent.parent if inside else place
    if not (run / RESULTS).is_file():
        return None
    results: dict[str, Any] = read_sealed(run / RESULTS, ())
    if inside and checkpoints.state_of(place)["global_step"] != results["best_step"]:
        return None
    return results


def _training(results: Mapping[str, Any]) -> list[str]:
    return [
        "## Training",
        "",
        f"Loss {results['family']}, {results['strength']}: `{results['control']}`; checkpoint of "
        f"step {results['best_step']:,} of {results['total_steps']:,}.",
        "",
    ]


def _numbers(test: Mapping[str, float]) -> list[str]:
    groups = [name for name in GROUPS if any(f"{row}/{name}" in test for row in _ROWS)]
    columns = ["all", *groups]
    lines = [
        "## Results on the test split, percent",
        "",
        f"| | {' | '.join(columns)} |",
        f"| --- |{' --- |' * len(columns)}",
    ]
    for row in _ROWS:
        if row in test:
            names = [row, *(f"{row}/{group}" for group in groups)]
            lines.append(f"| {row} | {' | '.join(_percent(test, name) for name in names)} |")
    return [
        *lines,
        "",
        "Head, mid and tail are by the number of training samples of the class.",
        "",
    ]


def _percent(test: Mapping[str, float], name: str) -> str:
    if name not in test:
        return ""
    ends = [test.get(f"{name}/{end}") for end in ("low", "high")]
    value = f"{100 * test[name]:.1f}"
    if None in ends:
        return value
    low, high = (100 * end for end in ends if end is not None)
    return f"{value} [{low:.1f}, {high:.1f}]"


def _protocol(results: Mapping[str, Any]) -> list[str]:
    parts = (f"* {name}: {text}" for name, text in results["protocol"].items())
    return ["## Protocol", "", *parts, ""]


def check_push(name: str) -> None:
    """Refuse a repository that cannot be written to, before the work.

    Raises:
        ValueError: no name of a repository, no network wanted, or nobody is logged in.
    """
    from huggingface_hub import HfApi

    if not _REPOSITORY.fullmatch(name):
        raise ValueError(f"push {name!r} is no name on the hub: it is ORG/NAME")
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise ValueError(f"push {name}: HF_HUB_OFFLINE is set, so that the hub is never asked")
    try:
        HfApi().whoami()
    except Exception as error:  # of the network, or nobody is logged in
        raise ValueError(
            f"push {name}: the hub does not know who you are; log in with 'hf auth login': "
            f"{one_line(error)}"
        ) from error


def upload(folder: Path, name: str, private: bool) -> None:
    """Upload a folder to the hub, into a repository that is made if need be.

    Args:
        folder: that was exported.
        name: name of the repository.
        private: whether one that is made is.

    Raises:
        ValueError: the upload failed; the folder stays.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(folder_path=str(folder), repo_id=name)
    except Exception as error:  # of the network or the hub
        raise ValueError(
            f"push {name} failed: {one_line(error)}. The export itself is whole, in {folder}"
        ) from error
