import csv
import gzip
import json
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tauten.structure import Clusters, caption_clusters, captions, cluster_file, read_captions

CAPTIONS = ["a dog", "a puppy", "a red car", "a blue car", "a car"]


def emoji_captions() -> list[str]:
    index = files("tauten.data") / "embedded" / "emoji_lt" / "index.csv"
    return [row["caption"] for row in csv.DictReader(index.read_text("utf-8").splitlines())]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps({"caption": text}) + "\n" for text in CAPTIONS))
    return path


def write(path: Path) -> Path:
    rows = [{"id": row, "caption": text} for row, text in enumerate(CAPTIONS)]
    match path.suffix:
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case ".json":
            path.write_text(json.dumps(rows))
        case ".csv":
            path.write_text(
                "id,caption\n" + "".join(f"{row},{text}\n" for row, text in enumerate(CAPTIONS))
            )
        case ".txt":
            path.write_text("\n".join(CAPTIONS) + "\n")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt", "parquet"])
def test_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    assert read_captions(write(tmp_path / f"captions.{kind}")) == CAPTIONS


def test_other_column(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("text,n\na dog,1\n")
    assert read_captions(tmp_path / "c.csv", column="text") == ["a dog"]


def test_files_written_and_what_they_hold(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "new" / "clusters.parquet"
    found = cluster_file(source, 2, output, progress=False)
    assert sorted(file.name for file in output.parent.iterdir()) == [
        "clusters.parquet",
        "clusters.png",
    ]
    assert found.assignment.tolist() == [1, 1, 0, 0, 0]
    assert pq.read_table(output).to_pydict() == {
        "index": [0, 1, 2, 3, 4],
        "caption": CAPTIONS,
        "cluster": [1, 1, 0, 0, 0],
        "count": [2, 2, 3, 3, 3],
    }
    loaded = Clusters.load(output)
    assert torch.equal(loaded.centroids, found.centroids)
    assert torch.equal(loaded.per_sample_counts, found.per_sample_counts)
    with Image.open(output.with_suffix(".png")) as picture:
        assert picture.size == (1200, 675)


def test_progress_is_shown(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_file(source, 2, tmp_path / "c.parquet")
    shown = capsys.readouterr().err
    assert "Batches" in shown
    assert "k-means" in shown


def test_emoji_names_cluster_the_same_on_repeat_and_by_meaning(tmp_path: Path) -> None:
    captions = emoji_captions()[::6]
    path = tmp_path / "emoji.json"
    path.write_text(json.dumps(captions))
    outputs = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    first, _ = [cluster_file(path, 20, output, seed=1, progress=False) for output in outputs]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert int(first.counts.min()) >= 1
    flags = [row for row, caption in enumerate(captions) if caption.startswith("flag: ")]
    others = [row for row in range(len(captions)) if row not in flags]
    flag_clusters = set(first.assignment[flags].tolist())
    mixed = sum(int(cluster) in flag_clusters for cluster in first.assignment[others])
    assert len(flags) > 30
    assert mixed < 0.05 * len(others)


def test_real_captions_of_a_photo_land_together_more_often(shared_data: Path) -> None:
    with gzip.open(shared_data / "coco" / "captions_val2017.json.gz") as file:
        annotations = json.load(file)["annotations"]
    photos = sorted({row["image_id"] for row in annotations})[:40]
    rows = [row for row in annotations if row["image_id"] in photos]
    clusters = caption_clusters([row["caption"].strip() for row in rows], 20, progress=False)
    photo = torch.tensor([row["image_id"] for row in rows])
    together = clusters.assignment[:, None] == clusters.assignment
    same = photo[:, None] == photo
    same_photo = together[same & ~torch.eye(len(rows), dtype=torch.bool)].float().mean()
    assert same_photo > 0.5
    assert together[~same].float().mean() < 0.2 * same_photo


@pytest.mark.parametrize("name", ["c.parquet", "c.png"])
def test_existing_output_is_kept(tmp_path: Path, source: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(FileExistsError, match=rf"{name} exists: choose another output"):
        cluster_file(source, 2, tmp_path / "c.parquet", progress=False)
    assert (tmp_path / name).read_text() == "precious"


def test_existing_output_can_be_replaced(tmp_path: Path, source: Path) -> None:
    (tmp_path / "c.parquet").write_text("old")
    cluster_file(source, 2, tmp_path / "c.parquet", progress=False, overwrite=True)
    assert Clusters.load(tmp_path / "c.parquet").k == 2


def test_half_an_output_is_not_in_the_way(tmp_path: Path, source: Path, monkeypatch) -> None:
    def full(*given, **options) -> None:
        raise OSError(28, "No space left on device", "c.png")

    with monkeypatch.context() as patch:
        patch.setattr(captions, "plot_tail", full)
        with pytest.raises(OSError, match="No space left"):
            cluster_file(source, 2, tmp_path / "c.parquet", progress=False)
    assert list(tmp_path.iterdir()) == [source]
    (tmp_path / "c.parquet").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(captions, "plot_tail", full)
        with pytest.raises(OSError, match="No space left"):
            cluster_file(source, 2, tmp_path / "c.parquet", progress=False, overwrite=True)
    assert Clusters.load(tmp_path / "c.parquet").k == 2


def test_output_must_be_parquet(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ValueError, match=r"must end with \.parquet, got .*c\.csv"):
        cluster_file(source, 2, tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("k", "message"), [(6, "k = 6 clusters from 5 captions"), (1, "k must be at least 2, got 1")]
)
def test_k_out_of_range_is_refused_before_any_work(
    tmp_path: Path, source: Path, k: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tauten.structure.clustering.embed_captions", None)
    with pytest.raises(ValueError, match=message):
        cluster_file(source, k, tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere\.jsonl"):
        cluster_file(tmp_path / "nowhere.jsonl", 2, tmp_path / "c.parquet")


def test_missing_column(source: Path) -> None:
    with pytest.raises(ValueError, match=r"captions\.jsonl: no column 'text'; columns: caption"):
        read_captions(source, column="text")


def test_blank_caption(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a dog\n\na cat\n")
    with pytest.raises(ValueError, match=r"c\.txt: 1 of 3 captions are blank, first at position 1"):
        read_captions(tmp_path / "c.txt")


def test_row_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"caption": "a dog"}\n{"id": 3}\n')
    with pytest.raises(ValueError, match="1 of 2 captions are blank, first at position 1"):
        read_captions(tmp_path / "c.jsonl")


def test_several_captions_in_a_row(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('[{"caption": ["a dog", "a puppy"]}]')
    with pytest.raises(ValueError, match=r"c\.json: caption 0 is of type list, not text"):
        read_captions(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("name", "content"), [("c.json", "[]"), ("c.txt", ""), ("c.csv", "caption\n")]
)
def test_no_captions(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="there are no captions"):
        read_captions(tmp_path / name)


def test_notes_say_how_the_clusters_came_about(tmp_path: Path, source: Path) -> None:
    cluster_file(source, 2, tmp_path / "c.parquet", seed=5, progress=False)
    metadata = pq.read_metadata(tmp_path / "c.parquet").metadata[b"tauten.clusters"]
    assert json.loads(metadata)["notes"] == {"k": 2, "seed": 5, "model": "minilm"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (r'{"caption": "half \ud83d"}', r"caption 1: half a character: \\ud83d at position 5"),
        ('{"caption": NaN}', "1 of 2 captions are blank, first at position 1"),
    ],
)
def test_captions_that_are_no_texts(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "c.jsonl").write_text('{"caption": "a dog"}\n' + line + "\n")
    with pytest.raises(ValueError, match=problem):
        read_captions(tmp_path / "c.jsonl")
