"""EPIC-KITCHENS-100 multi-instance retrieval: its clips as samples, its annotations checked."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from tauten.data.epic_files import Split
from tauten.data.epic_kitchens import check_epic_kitchens, load_epic_kitchens
from tauten.data.epic_videos import epic_clips
from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry


def read_epic_kitchens(root: Path) -> Collection:
    """Read clips with their narration, the main noun class as `label` and the video as `group`.

    For relevancies and sentences see :func:`tauten.data.epic_kitchens.load_epic_kitchens`.

    Raises:
        FileNotFoundError: no annotations of either split.
        ValueError: annotations that do not parse.
    """
    splits = {}
    problem: FileNotFoundError | None = None
    for split in get_args(Split):
        try:
            splits[split] = _entries(root, split)
        except FileNotFoundError as error:
            problem = error
    if not splits and problem is not None:
        raise problem
    notes = tuple(check_epic_kitchens(root))
    return Collection("epic_kitchens", "EPIC-KITCHENS-100 MIR", splits, notes)


def _entries(root: Path, split: Split) -> list[Entry]:
    data = load_epic_kitchens(root, split, strict=False)
    clips = epic_clips(root, data)
    return [
        Entry(
            id=data.narration_id[n],
            media=clips[n],
            captions=() if data.narration[n] is None else (str(data.narration[n]),),
            label=str(data.nouns[n][0]),
            group=data.video_id[n],
        )
        for n in range(len(data))
    ]


EPIC_KITCHENS = Reader(
    name="epic_kitchens",
    about="EPIC-KITCHENS-100 multi-instance retrieval: 67,217 training clips, 9,668 test clips",
    source=(
        "github.com/epic-kitchens/epic-kitchens-100-annotations (retrieval_annotations) and "
        "epic-kitchens.github.io (videos)"
    ),
    read=read_epic_kitchens,
    figures={"train": Figures(67_217), "test": Figures(9_668)},
    needs_media=False,
)
