"""Checkpoints that are either whole or ignored, written by one process or by all of them."""

from typing import TYPE_CHECKING

from tauten.lazy import attach

if TYPE_CHECKING:
    from tauten.training.checkpoints.files import (
        BEST,
        MARKER,
        SHARDED,
        STAGING,
        STATE,
        best_of,
        check,
        clean,
        find,
        is_complete,
        latest,
        publish,
        reading,
        rotate,
        seal,
        set_best,
        state_of,
    )
    from tauten.training.checkpoints.sharded import load_sharded, save_sharded

__all__ = [
    "BEST",
    "MARKER",
    "SHARDED",
    "STAGING",
    "STATE",
    "best_of",
    "check",
    "clean",
    "find",
    "is_complete",
    "latest",
    "load_sharded",
    "publish",
    "reading",
    "rotate",
    "save_sharded",
    "seal",
    "set_best",
    "state_of",
]

__getattr__ = attach(__name__, __file__)
