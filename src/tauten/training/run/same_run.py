"""Rules by which two starts are of one run: configuration, data, and what may change between."""

from __future__ import annotations

from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

from tauten.training.options.config_tree import completed, differences
from tauten.training.run.late import without_late
from tauten.training.run.names import INIT
from tauten.training.run.places import located

#: options that may change between two starts
_FREE = ("output", "overwrite", "progress", "tensorboard", "report_to", "device")
_FREE_OF_DATA = ("workers",)
_ANEW = "Choose another output, or overwrite=True to start anew"


def semantic(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration's tree without the options that change no number."""
    data = {name: value for name, value in tree["data"].items() if name not in _FREE_OF_DATA}
    return {name: value for name, value in tree.items() if name not in _FREE} | {"data": data}


def check_config(
    folder: Path, wanted: dict[str, Any], stored: dict[str, Any], *, late: bool, ended: bool
) -> None:
    """Refuse a configuration that is not that of the run, but for what may change.

    Args:
        folder: of the run.
        wanted: tree of the configuration that is to be trained.
        stored: tree of the run's, its places absolute.
        late: whether options that do not touch the training may change.
        ended: whether the training came to its end, so that it may be made longer.

    Raises:
        ValueError: with the options that differ.
    """
    ours = located(wanted, Path())
    _forgive_moved(ours["data"], stored["data"])
    ours, theirs = semantic(ours), semantic(stored)
    if late:
        ours, theirs = without_late(ours), without_late(theirs)
    longer = ours["optim"]["epochs"] > theirs["optim"]["epochs"]
    if longer and ended:
        theirs = theirs | {"optim": theirs["optim"] | {"epochs": ours["optim"]["epochs"]}}
    changed = differences(ours, theirs)
    if changed:
        raise ValueError(
            f"{folder} holds a run with another configuration: {'; '.join(changed)}. {_ANEW}"
            + (". It takes more epochs once it has come to its end" if longer else "")
        )


def same_settings(ours: Mapping[str, Any], theirs: Any) -> bool:
    """Return whether two provenances are of one configuration and the same data.

    Args:
        ours: of the run.
        theirs: of results of an earlier version, which may lack it; those count as the run's.
    """
    if not isinstance(theirs, dict) or not isinstance(theirs.get("config"), dict):
        return True
    try:
        trees = [without_late(completed(one["config"])) for one in (ours, theirs)]
    except ValueError:
        return False
    # of data and model the places may be written differently
    now, other = ({**semantic(tree), "data": None, "model": None} for tree in trees)
    return ours["data"] == theirs.get("data") and not differences(now, other)


def check_data(folder: Path, record: Mapping[str, Any], data: Mapping[str, str]) -> None:
    """Refuse another data set than that of the run.

    Args:
        folder: of the run.
        record: of the run.
        data: fingerprint of each split.

    Raises:
        ValueError: with the split.
    """
    for split, fingerprint in data.items():
        theirs = record["data"].get(split)
        if theirs != fingerprint:
            raise ValueError(
                f"{folder} holds a run on another data set: the {split} split has "
                f"fingerprint {fingerprint}, the run was started with {theirs}. {_ANEW}"
            )


def check_contents(folder: Path, record: Mapping[str, Any], split: str, contents: str) -> None:
    """Refuse data, or weights, of which anything has changed since the run began.

    Args:
        folder: of the run.
        record: of the run.
        split: of the data, or the weights that the run began with.
        contents: its hash; what an earlier version began has none to compare with.

    Raises:
        ValueError: it is another.
    """
    theirs = record.get("contents")
    trained = theirs.get(split) if isinstance(theirs, dict) else None
    if split == INIT and contents != trained:
        raise ValueError(
            f"the weights of init have changed since the run {folder} began with them: "
            "choose another output, or overwrite=True to start anew"
        )
    if contents and trained is not None and contents != trained:
        raise ValueError(
            f"the {split} split has changed since the run {folder} began: a picture, a "
            f"caption, a class or another value in it (contents {contents}, then {trained}; a "
            "shard counts as changed when its size or time of change has). "
            "Bring the data back as they were, choose another output, or overwrite=True to "
            "start anew"
        )


def _forgive_moved(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Let data be elsewhere when they are gone from where they were; their content is checked."""
    for name in ("source", "val", "test"):
        here, there = ours[name], theirs[name]
        if here is None or there is None or here == there:
            continue
        (kind, _, _), (was, _, old) = here.rpartition(":"), there.rpartition(":")
        if kind == was and old.startswith("/") and not glob(old):  # noqa: PTH207
            theirs[name] = here
