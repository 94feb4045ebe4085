import json
from pathlib import Path

import pytest

from tauten.cli import main
from tauten.data.check import Finding, Report, equal
from tauten.data.readers import READERS, check, read, to_dataset
from tauten.data.readers.entries import Entry
from tauten.data.video import Clip


def test_a_finding_says_whether_it_is_as_published():
    assert equal("images", 3, 3).verdict == "ok"
    assert equal("images", 3, None).verdict == "ok"
    assert equal("images", 2, 3).verdict == "FAIL"
    assert equal("images", 2, 3, fatal=False).verdict == "differs"


def test_a_report_is_usable_unless_a_finding_is_fatal():
    good, odd, bad = (
        Finding("a", 1, 1),
        Finding("b", 1234567, 2, False, "get b", fatal=False),
        Finding("c", None, "x", False, "get c"),
    )
    report = Report("set", Path("root"), "family", (good, odd), "abc")
    assert report.usable
    assert report.table().splitlines() == [
        "set (family) in root",
        "         found  expected",
        "  a          1         1  ok",
        "  b  1,234,567         2  differs",
        "- get b",
        "fingerprint abc",
    ]
    unusable = Report("set", Path("root"), "family", (good, odd, bad))
    assert not unusable.usable
    assert unusable.as_dict()["findings"][2]["remedy"] == "get c"
    assert json.loads(json.dumps(unusable.as_dict()))["usable"] is False


def test_list_names_every_data_set(capsys):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(READERS)


def test_check_prints_a_table_and_writes_json(shared_data, tmp_path, capsys):
    target = tmp_path / "results" / "coco35.json"
    words = ["data", "check", "coco35", "--root", str(shared_data), "--all", "--json", str(target)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    written = json.loads(target.read_text())
    assert written["usable"] is True
    assert f"fingerprint {written['fingerprint']}" in printed
    assert "train captions" in printed


def test_check_fails_where_the_data_cannot_be_used(tmp_path, capsys):
    assert main(["data", "check", "flickr30k", "--root", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "has no dataset_flickr30k.json" in printed.out
    assert "shannon.cs.illinois.edu" in printed.out
    assert printed.err == "tauten: flickr30k cannot be used as it is: annotations\n"


def test_unknown_names_and_folders_are_refused(tmp_path, capsys):
    assert main(["data", "check", "flickr", "--root", str(tmp_path)]) == 1
    assert "unknown data set 'flickr'; there are flickr30k, coco" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read("coco", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check("coco", tmp_path / "nowhere")


def test_clips_and_pictures_do_not_make_one_data_set(pictures):
    picture, clip = Entry("a", pictures[0]), Entry("b", Clip(Path("b.mp4")))
    with pytest.raises(ValueError, match="1 clips among 2 samples"):
        to_dataset([picture, clip])
    with pytest.raises(ValueError, match="no samples"):
        to_dataset([])
