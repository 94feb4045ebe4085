from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tauten.structure import Clusters
from tauten.structure.tables import read_rows

CENTROIDS = torch.nn.functional.normalize(torch.arange(12.0).reshape(3, 4) + 1, dim=1)


def clusters() -> Clusters:
    return Clusters.from_assignment(torch.tensor([2, 0, 2, 1, 2, 1]), CENTROIDS)


def test_numbered_by_size() -> None:
    result = clusters()
    assert result.k == 3
    assert result.assignment.tolist() == [0, 2, 0, 1, 0, 1]
    assert result.counts.tolist() == [3, 2, 1]
    assert result.per_sample_counts.tolist() == [3, 1, 3, 2, 3, 2]
    assert torch.equal(result.centroids, CENTROIDS[[2, 1, 0]])


def test_round_trip(tmp_path: Path) -> None:
    saved = clusters()
    saved.save(tmp_path / "c.parquet", list("abcdef"), {"seed": 3})
    loaded = Clusters.load(tmp_path / "c.parquet")
    for name in ("assignment", "counts", "per_sample_counts", "centroids"):
        assert torch.equal(getattr(loaded, name), getattr(saved, name))
        assert getattr(loaded, name).dtype == getattr(saved, name).dtype


def test_columns_any_parquet_reader_sees(tmp_path: Path) -> None:
    clusters().save(tmp_path / "c.parquet", list("abcdef"))
    table = pq.read_table(tmp_path / "c.parquet")
    assert table.to_pydict() == {
        "index": [0, 1, 2, 3, 4, 5],
        "caption": list("abcdef"),
        "cluster": [0, 2, 0, 1, 0, 1],
        "count": [3, 1, 3, 2, 3, 2],
    }
    clusters().save(tmp_path / "d.parquet")
    assert pq.read_table(tmp_path / "d.parquet").column_names == ["index", "cluster", "count"]


def test_same_clusters_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        clusters().save(tmp_path / name, list("abcdef"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_number_of_captions_must_match(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 captions for 6 samples"):
        clusters().save(tmp_path / "c.parquet", ["a", "b"])


def test_parquet_without_clusters(tmp_path: Path) -> None:
    pq.write_table(pa.table({"cluster": [0, 1]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet holds no clusters \(columns: cluster\)"):
        Clusters.load(tmp_path / "c.parquet")


def test_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_text("cluster\n0\n1\n")
    with pytest.raises(ValueError, match=r"c\.parquet is not a readable parquet file"):
        Clusters.load(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    "notes",
    [
        b"[]",
        b"{}",
        b"{",
        b'{"shape": [1, 2], "centroids": "AAAAAAAAAAA="}',
        b'{"shape": [2, 2], "centroids": "AAAA"}',
    ],
)
def test_damaged_clusters_are_named(tmp_path: Path, notes: bytes) -> None:
    table = pa.table({"cluster": [0, 1]}).replace_schema_metadata({b"tauten.clusters": notes})
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet is damaged: clusters and centroids"):
        Clusters.load(tmp_path / "c.parquet")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("read", [Clusters.load, read_rows])
def test_a_file_that_was_read_is_closed(tmp_path: Path, monkeypatch, read) -> None:
    clusters().save(tmp_path / "c.parquet", list("abcdef"))
    kept, file = [], pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path: kept.append(file(path)) or kept[-1])
    read(tmp_path / "c.parquet")
    assert len(kept) == 1
    opened = {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    assert str(tmp_path / "c.parquet") not in opened


@pytest.mark.parametrize("assignment", [[0, 3], [-1, 0]])
def test_cluster_numbers_out_of_range(assignment: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"0\.\.2, got {min(assignment)}\.\.{max(assignment)}"):
        Clusters.from_assignment(torch.tensor(assignment), CENTROIDS)


def test_no_samples() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2, got nothing"):
        Clusters.from_assignment(torch.tensor([], dtype=torch.int64), CENTROIDS)


def test_empty_cluster() -> None:
    with pytest.raises(ValueError, match="1 of 3 clusters have no member, first: 1"):
        Clusters.from_assignment(torch.tensor([0, 2]), CENTROIDS)
