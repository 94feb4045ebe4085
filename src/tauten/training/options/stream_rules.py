"""Rules for a configuration of training from shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tauten.training.options.ranges import check_needed, check_rules

if TYPE_CHECKING:
    from tauten.training.options.config import DataConfig


def check_stream(data: DataConfig, task: str) -> None:
    """Refuse what has no meaning for training pictures that stay in shards.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """
    if not data.stream:
        return
    check_rules(
        (
            data.val is None or data.test is None,
            "data.stream reads shards to train on and holds nothing out: give data.val and "
            f"data.test, got {data.val} and {data.test}",
        ),
        (
            data.source.startswith("hf:"),
            f"data.stream reads tars and parquet files where they lie, and {data.source} is loaded "
            "as a whole: leave data.stream out, or give the folder of its parquet files",
        ),
        (
            data.source in ("", "emoji_lt"),
            "data.stream reads WebDataset tars and parquet files: set data.source to a file, a "
            f"folder or a pattern of them, or to cc3m:FOLDER, got {data.source!r}",
        ),
        (
            data.limit is not None,
            f"data.stream reads all of its shards: give fewer of them instead of data.limit="
            f"{data.limit}",
        ),
    )
    other = {
        "task": (task, "pairs"),
        "data.frames": (data.frames, 0),
        "data.strip": (data.strip, 0),
        "data.features": (data.features, None),
        "data.relevancy": (data.relevancy, "none"),
        "data.span_low": (data.span_low, 1.0),
        "data.left_out": (data.left_out, 0.0),
        "data.repeated": (data.repeated, 0.0),
        "data.negatives": (data.negatives, None),
    }
    check_needed(other, "data.stream reads images and needs {}, got {}")
