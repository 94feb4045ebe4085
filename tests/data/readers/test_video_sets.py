import csv
import gzip
import json
import shutil
from pathlib import Path

import pytest

from tauten.data.readers import READERS, read, to_dataset
from tauten.data.video import Clip

CLIPS = "validation_youcook_3350_clips.csv.gz"


def findings(report) -> dict:
    return {finding.name: finding for finding in report.findings}


@pytest.fixture
def youcook2(shared_data: Path, tmp_path: Path) -> Path:
    """The clip table of 3,350 rows, and the annotations of 6 videos in the original layout."""
    source = shared_data / "youcook2"
    shutil.copy(source / CLIPS, tmp_path / CLIPS)
    (tmp_path / "annotations").mkdir()
    shutil.copy(
        source / "youcookii_annotations_excerpt_6_videos.json",
        tmp_path / "annotations" / "youcookii_annotations_trainval.json",
    )
    return tmp_path


@pytest.fixture
def msrvtt(tmp_path: Path) -> Path:
    videos = [{"video_id": f"video{k}", "category": k % 3, "split": "train"} for k in range(6)]
    sentences = [
        {"video_id": f"video{k}", "caption": f"sentence {n} of {k}", "sen_id": 20 * k + n}
        for k in range(6)
        for n in range(20)
    ]
    content = {"videos": videos, "sentences": sentences}
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps(content))
    with (tmp_path / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "vid_key", "video_id", "sentence"])
        rows.writerow(["ret0", "msr4", "video4", "sentence 3 of 4"])
        rows.writerow(["ret1", "msr1", "video1", "sentence 0 of 1, with a comma"])
    return tmp_path


def test_the_table_of_3350_clips_is_recognised(youcook2):
    found = read("youcook2", youcook2)
    assert found.variant == "3,350 clips, as HowTo100M (validation_youcook.csv)"
    assert len(found.splits["val"]) == 3_350
    assert len({entry.group for entry in found.splits["val"]}) == 436
    first = found.splits["val"][0]
    assert first.captions == ("pick the ends off the verdalago",)
    assert first.media == Clip(youcook2 / "raw_videos" / "xHr8X2Wpmno.mp4", 47.0, 60.0)
    assert (first.label, first.group) == ("226", "xHr8X2Wpmno")


def test_without_the_table_the_annotations_decide(youcook2):
    (youcook2 / CLIPS).unlink()
    found = read("youcook2", youcook2)
    rows = json.loads(
        (youcook2 / "annotations" / "youcookii_annotations_trainval.json").read_text()
    )["database"]
    for split, subset in (("train", "training"), ("val", "validation")):
        literal = [
            (video, *one["segment"], one["sentence"])
            for video, row in rows.items()
            for one in row["annotations"]
            if row["subset"] == subset
        ]
        seen = [(e.group, e.media.start, e.media.stop, *e.captions) for e in found.splits[split]]
        assert seen == literal
    assert found.variant == "12 validation clips, of no published part"
    part = findings(READERS["youcook2"].check(youcook2, progress=False))["validation part"]
    assert (part.ok, part.fatal) == (False, False)
    for count in ("3,492", "3,369", "3,350", "3,305"):
        assert count in part.remedy


def test_clips_become_a_data_set_of_parts_of_videos(youcook2):
    dataset = to_dataset(read("youcook2", youcook2).splits["val"][:2])
    assert dataset["start"] == [47.0, 67.0]
    assert dataset["stop"] == [60.0, 89.0]
    assert dataset["fps"] == [None, None]
    assert dataset["video"][0].endswith("xHr8X2Wpmno.mp4")


def test_annotations_without_videos_serve_precomputed_features(youcook2):
    report = READERS["youcook2"].check(youcook2, progress=False)
    media = findings(report)["samples with media"]
    assert (media.found, media.expected, media.verdict) == (0, 3_350 + 42, "differs")
    assert report.usable


def test_videos_are_found_at_any_depth_and_tried(youcook2):
    pytest.importorskip("av", reason="video files need PyAV")
    folder = youcook2 / "raw_videos" / "validation" / "226"
    folder.mkdir(parents=True)
    (folder / "xHr8X2Wpmno.webm").write_bytes(b"no video")
    report = findings(READERS["youcook2"].check(youcook2, progress=False))
    assert report["samples with media"].found == 6
    tried = report["readable media of those tried"]
    assert (tried.found, tried.expected) == (0, 6)
    assert "xHr8X2Wpmno.webm is not a readable video" in tried.remedy


def test_a_table_without_its_columns_is_refused(youcook2):
    (youcook2 / CLIPS).write_bytes(gzip.compress(b"start,stop\n1,2\n"))
    assert "need columns" in READERS["youcook2"].check(youcook2).findings[0].remedy


def test_msrvtt_test_videos_have_one_sentence_and_the_others_all(msrvtt):
    found = read("msrvtt", msrvtt)
    assert found.variant == "1k-A"
    assert [(e.id, e.captions) for e in found.splits["test"]] == [
        ("video4", ("sentence 3 of 4",)),
        ("video1", ("sentence 0 of 1, with a comma",)),
    ]
    train = found.splits["train"]
    assert [entry.id for entry in train] == ["video0", "video2", "video3", "video5"]
    assert train[1].captions == tuple(f"sentence {n} of 2" for n in range(20))
    assert train[1].label == "2"


def test_msrvtt_is_checked_against_nine_thousand_and_one_thousand(msrvtt):
    report = READERS["msrvtt"].check(msrvtt, progress=False)
    numbers = findings(report)
    assert (numbers["train samples"].found, numbers["train samples"].expected) == (4, 9_000)
    assert (numbers["test samples"].found, numbers["test samples"].expected) == (2, 1_000)
    assert not report.usable


def test_a_test_video_that_the_annotations_lack_is_named(msrvtt):
    file = msrvtt / "MSRVTT_JSFUSION_test.csv"
    file.write_text(file.read_text() + "ret2,msr9,video9,text\n")
    assert "lacks 1 test videos" in READERS["msrvtt"].check(msrvtt).findings[0].remedy


def test_epic_kitchens_has_its_clips_and_its_own_findings(shared_data, tmp_path):
    for file in (shared_data / "ek100").glob("EPIC_100_retrieval_test*"):
        (tmp_path / file.name).symlink_to(file)
    report = READERS["epic_kitchens"].check(tmp_path, progress=False)
    numbers = findings(report)
    assert (numbers["test samples"].found, numbers["test sentences"].found) == (9_668, 3_842)
    assert numbers["test samples"].ok
    assert not numbers["splits"].ok, "the training annotations are not there"
    assert not report.usable
    clip = read("epic_kitchens", tmp_path).splits["test"][0]
    assert clip.id.startswith(f"{clip.group}_")
    assert clip.media.path == tmp_path / clip.group[:3] / "videos" / f"{clip.group}.MP4"


def test_epic_kitchens_without_annotations_is_not_read(tmp_path):
    report = READERS["epic_kitchens"].check(tmp_path, progress=False)
    assert not report.usable
    assert "epic-kitchens" in report.findings[0].remedy


def test_without_pyav_videos_are_not_tried_and_the_extra_is_named(youcook2, monkeypatch):
    from tauten.data import video_file

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    (youcook2 / "raw_videos").mkdir()
    (youcook2 / "raw_videos" / "xHr8X2Wpmno.mp4").write_bytes(b"a video")
    monkeypatch.setattr(video_file, "import_module", absent)
    report = READERS["youcook2"].check(youcook2, progress=False)
    tried = findings(report)["readable media of those tried"]
    assert (tried.verdict, tried.found) == ("differs", 0)
    assert "tauten[video]" in tried.remedy
    assert report.usable
