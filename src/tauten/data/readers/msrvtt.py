"""MSR-VTT in the 1k-A split (Yu et al., A Joint Sequence Fusion Model, ECCV 2018)."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find, media_folder, read_json
from tauten.data.video import Clip

_PROBED = 20


def read_msrvtt(root: Path) -> Collection:
    """Read 1,000 test videos with one sentence each; the other 9,000 with all theirs for training.

    `MSRVTT_JSFUSION_test.csv` names the test videos and sentences, `MSRVTT_data.json` has all of
    both.

    Raises:
        FileNotFoundError: one of the two is not there.
        ValueError: one that does not parse; a test video that the json lacks.
    """
    table = find(root, ["MSRVTT_JSFUSION_test.csv", "msrvtt_data/MSRVTT_JSFUSION_test.csv"])
    file = find(root, ["MSRVTT_data.json", "msrvtt_data/MSRVTT_data.json"])
    content = read_json(file, ["videos", "sentences"])
    captions: dict[str, list[str]] = defaultdict(list)
    for row in content["sentences"]:
        captions[row["video_id"]].append(row["caption"].strip())
    categories = {row["video_id"]: row.get("category") for row in content["videos"]}
    test = _test(table)
    unknown = sorted(set(test) - set(categories))
    if unknown:
        raise ValueError(
            f"{file} lacks {len(unknown)} test videos of {table}, such as {unknown[0]}"
        )
    names = [f"{video}.mp4" for video in categories]
    folders = ["videos/all", "videos", "TrainValVideo", "MSRVTT_Videos", "."]
    base = media_folder(root, folders, names[:_PROBED])

    def entry(video: str, texts: list[str]) -> Entry:
        label = None if categories[video] is None else str(categories[video])
        return Entry(video, Clip(base / f"{video}.mp4"), tuple(texts), label)

    splits = {
        "train": [entry(video, captions[video]) for video in categories if video not in test],
        "test": [entry(video, [text]) for video, text in test.items()],
    }
    return Collection("msrvtt", "1k-A", splits)


def _test(table: Path) -> dict[str, str]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"video_id", "sentence"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{table}: need columns video_id, sentence, found {rows.fieldnames}")
        return {row["video_id"]: row["sentence"].strip() for row in rows}


MSRVTT = Reader(
    name="msrvtt",
    about="MSR-VTT 1k-A: 9,000 training videos with 20 sentences each, 1,000 test pairs",
    source=(
        "github.com/ArrowLuo/CLIP4Clip, releases (MSRVTT_data.json, MSRVTT_JSFUSION_test.csv) and "
        "the MSR-VTT videos"
    ),
    read=read_msrvtt,
    figures={"train": Figures(9_000, 180_000), "test": Figures(1_000, 1_000)},
    needs_media=False,
)
