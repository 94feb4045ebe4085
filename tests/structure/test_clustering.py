from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from tauten.structure import Clusters, caption_clusters, kmeans
from tauten.structure.assignment import Assignment, assign_all
from tauten.structure.unit_rows import UnitRows


def blobs(sizes: tuple[int, ...], noise: float = 0.05, d: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(len(sizes), d, generator=generator), dim=1)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = centres[labels] + noise * torch.randn(len(labels), d, generator=generator)
    return x, labels


def test_finds_a_long_tail_of_blobs() -> None:
    sizes = (300, 100, 30, 10, 3)
    x, labels = blobs(sizes)
    found = kmeans(x, 5)
    assert found.counts.tolist() == list(sizes)
    assert torch.equal(found.assignment, labels)
    assert torch.equal(found.per_sample_counts, torch.tensor(sizes)[labels])


def cosine(x: Tensor, found: Clusters) -> float:
    """Mean cosine of the rows to their centroids."""
    unit = normalize(x.double(), dim=1)
    return float((unit * found.centroids[found.assignment].double()).sum(dim=1).mean())


def test_more_starts_fit_better_and_one_is_the_first_of_them() -> None:
    """Twelve blobs of very different sizes: in ten seeds four starts never fit worse than one."""
    x, _ = blobs((400, 200, 120, 80, 60, 40, 30, 20, 15, 10, 7, 5), noise=0.1)
    once = [cosine(x, kmeans(x, 12, seed, starts=1)) for seed in range(10)]
    often = [cosine(x, kmeans(x, 12, seed, starts=4)) for seed in range(10)]
    assert all(b > a - 1e-6 for a, b in zip(once, often, strict=True))
    assert max(once) - min(once) > 1e-3
    assert max(once) - min(often) < 0.5 * (max(once) - min(once))


@pytest.mark.parametrize(
    ("k", "options", "message"),
    [
        (2.5, {}, "k must be a whole number, not 2.5"),
        (True, {}, "k must be a whole number, not True"),
        ("3", {}, "k must be a whole number, not '3'"),
        (2, {"seed": -1}, "seed must be at least 0, not -1"),
        (2, {"iterations": 1.5}, "iterations must be a whole number"),
        (2, {"starts": None}, "starts must be a whole number"),
    ],
)
def test_numbers_that_are_no_whole_ones(k: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kmeans(torch.eye(3), k, **options)


@pytest.mark.parametrize(
    "embeddings", [None, [[1.0, 2.0]], np.array([["a"]]), torch.eye(3).to(torch.complex64)]
)
def test_embeddings_that_are_none(embeddings: Any) -> None:
    with pytest.raises(ValueError, match="embeddings must"):
        kmeans(embeddings, 2)


def test_centroids_are_directions_of_their_members() -> None:
    x, labels = blobs((40, 30, 20))
    found = kmeans(x, 3)
    means = torch.stack([normalize(x, dim=1)[labels == c].mean(0) for c in range(3)])
    torch.testing.assert_close(found.centroids, normalize(means, dim=1), atol=1e-5, rtol=0)


def test_length_of_rows_does_not_matter() -> None:
    x, _ = blobs((40, 30, 20), noise=0.4)
    scale = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(1)) + 0.5
    assert torch.equal(kmeans(x, 6).assignment, kmeans(4 * x, 6).assignment)
    assert (kmeans(x, 6).assignment == kmeans(scale * x, 6).assignment).float().mean() > 0.99


def test_same_seed_same_result_other_seed_other_start() -> None:
    x, _ = blobs((200, 100, 50), noise=1.0)
    first, second, other = kmeans(x, 12, seed=3), kmeans(x, 12, seed=3), kmeans(x, 12, seed=4)
    assert torch.equal(first.assignment, second.assignment)
    assert torch.equal(first.centroids, second.centroids)
    assert not torch.equal(first.assignment, other.assignment)


def test_number_of_threads_does_not_matter() -> None:
    x, _ = blobs((200, 100, 50), noise=1.0)
    threads = faiss.omp_get_max_threads()
    try:
        results = []
        for count in (1, 4):
            faiss.omp_set_num_threads(count)
            results.append(kmeans(x, 12).assignment)
    finally:
        faiss.omp_set_num_threads(threads)
    assert torch.equal(*results)


def test_as_tight_as_sklearn() -> None:
    x, _ = blobs((200, 100, 50, 25), noise=0.3)
    unit = normalize(x, dim=1)
    ours = kmeans(x, 10, seed=0)
    theirs = KMeans(10, n_init=1, random_state=0).fit(unit.numpy())
    centres = normalize(torch.from_numpy(theirs.cluster_centers_), dim=1)
    fit = (unit * ours.centroids[ours.assignment]).sum(1).mean()
    assert fit > 0.99 * (unit * centres[torch.from_numpy(theirs.labels_).long()]).sum(1).mean()


def test_rows_join_their_most_similar_centroid() -> None:
    x, _ = blobs((60, 30), noise=1.0)
    found = kmeans(x, 7)
    similarity = normalize(x, dim=1) @ found.centroids.T
    chosen = similarity.gather(1, found.assignment[:, None])[:, 0]
    torch.testing.assert_close(chosen, similarity.max(dim=1).values, atol=1e-6, rtol=0)


def test_fit_on_a_subsample_assigns_everybody() -> None:
    sizes = (300, 200, 100)
    x, labels = blobs(sizes)
    found = kmeans(x, 3, max_points_per_centroid=20)
    assert torch.equal(found.assignment, labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 5))
def test_no_cluster_is_empty(distinct: int, k: int, seed: int) -> None:
    rows = torch.randn(distinct, 8, generator=torch.Generator().manual_seed(seed))
    x = rows.repeat_interleave(torch.arange(distinct) % 4 + 1, dim=0)
    found = kmeans(x, min(k, distinct), seed=seed, iterations=3)
    assert found.k == min(k, distinct)
    assert int(found.counts.min()) >= 1
    assert int(found.counts.sum()) == len(x)
    assert torch.equal(found.counts, torch.bincount(found.assignment))


def test_empty_cluster_takes_the_row_that_fits_worst() -> None:
    x = np.eye(4, dtype=np.float32)
    x[3] = [0.0, 0.6, 0.8, 0.0]
    start = np.array([x[0], x[0], x[1]])
    kept = Assignment(4, None, {})
    kept.start(start)
    assignment, centroids = assign_all(faiss, UnitRows(x), kept, 4, False)
    assert sorted(np.bincount(assignment)) == [1, 1, 2]
    assert np.array_equal(centroids[1], x[2])


def test_rows_that_cannot_be_told_apart() -> None:
    x = torch.ones(5, 4) + 1e-7 * torch.arange(5)[:, None] * torch.eye(5, 4)
    with pytest.raises(ValueError, match=r"k = \d.*(too close|distinct)"):
        kmeans(x, 5)


def test_k_larger_than_the_rows() -> None:
    with pytest.raises(ValueError, match="k = 4 clusters from 3 embeddings: lower k to at most 3"):
        kmeans(torch.eye(3), 4)


def test_k_larger_than_the_captions() -> None:
    with pytest.raises(ValueError, match="k = 200 clusters from 2 captions: lower k to at most 2"):
        caption_clusters(["a dog", "a cat"], 200)


def test_k_larger_than_the_distinct_captions() -> None:
    message = "k = 3 clusters from 4 captions of which only 2 are distinct: lower k to at most 2"
    with pytest.raises(ValueError, match=message):
        caption_clusters(["a dog", "a cat", "a dog", "a dog"], 3)


@pytest.mark.parametrize("k", [1, 0, -5])
def test_k_below_two(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be at least 2, got {k}"):
        kmeans(torch.eye(3), k)
    with pytest.raises(ValueError, match=f"k must be at least 2, got {k}"):
        caption_clusters(["a dog", "a cat"], k)


def test_shape() -> None:
    with pytest.raises(ValueError, match=r"\(N, d\), got shape \(3,\)"):
        kmeans(torch.ones(3), 2)


def test_rows_that_are_not_finite() -> None:
    x = torch.eye(4)
    x[2, 1] = torch.nan
    x[3, 0] = torch.inf
    with pytest.raises(ValueError, match="2 embeddings are not finite, first: row 2"):
        kmeans(x, 2)


def test_zero_rows() -> None:
    x = torch.eye(4)
    x[1] = 0
    with pytest.raises(ValueError, match=r"1 embeddings are zero .* first: row 1"):
        kmeans(x, 2)


@pytest.mark.parametrize("setting", ["iterations", "starts", "max_points_per_centroid", "block"])
def test_settings_below_one(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be at least 1, not 0"):
        kmeans(torch.eye(3), 2, **{setting: 0})  # type: ignore[arg-type]


BLOCK = 4096
Array = npt.NDArray[Any]


def mapped(folder: Path, rows: int = 3 * BLOCK + 30, dtype: str = "float32") -> Array:
    """A memory-mapped file of rows around 12 centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 32))
    x = centres[rng.integers(0, 12, rows)] + 0.7 * rng.standard_normal((rows, 32))
    np.save(folder / "x.npy", x.astype(dtype))
    found: Array = np.load(folder / "x.npy", mmap_mode="r")
    return found


def assert_same(found: Clusters, expected: Clusters) -> None:
    assert torch.equal(found.assignment, expected.assignment)
    assert torch.equal(found.counts, expected.counts)
    assert torch.equal(found.per_sample_counts, expected.per_sample_counts)
    assert torch.equal(found.centroids, expected.centroids)


def unit(x: Array) -> Array:
    doubles = torch.from_numpy(np.array(x)).double()
    rows: Array = (doubles / doubles.norm(dim=1, keepdim=True)).float().numpy()
    return rows


@pytest.mark.parametrize("rows", [5, BLOCK, 2 * BLOCK + 1, 3 * BLOCK + 30, 4 * BLOCK - 1])
@pytest.mark.parametrize("width", [8, 100])
def test_streamed_assignment_is_that_of_all_rows_at_once(rows: int, width: int) -> None:
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, width)).astype(np.float32)
    start = unit(x[:33])
    index = faiss.IndexFlatIP(width)
    index.add(start)
    similarity, nearest = index.search(unit(x), 1)
    kept = Assignment(rows, None, {})
    kept.start(start)
    assignment, centroids = assign_all(faiss, UnitRows(x), kept, 2001, False)
    assert np.array_equal(assignment, nearest[:, 0])
    assert np.array_equal(kept.similarity, similarity[:, 0])
    assert np.array_equal(centroids, start)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("most", [40, 10_000])
def test_memory_mapped_file_gives_the_clusters_of_a_tensor(
    tmp_path: Path, dtype: str, most: int
) -> None:
    x = mapped(tmp_path, dtype=dtype)
    whole = kmeans(torch.tensor(x), 20, seed=1, iterations=3, max_points_per_centroid=most)
    found = kmeans(x, 20, seed=1, iterations=3, max_points_per_centroid=most, block=1)
    assert_same(found, whole)


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> list[range]:
    """Make the progress bar of the assignment raise at a block; returns the blocks it gave out."""
    given: list[range] = []

    def bar(items: list[range], **options: Any) -> Iterator[range]:
        for number, item in enumerate(items):
            if number == blocks:
                raise KeyboardInterrupt
            given.append(item)
            yield item

    monkeypatch.setattr("tqdm.tqdm", bar)
    return given


FEW = {"iterations": 3, "max_points_per_centroid": 40, "block": BLOCK}


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    x, folder = mapped(tmp_path), tmp_path / "state"
    whole = kmeans(x, 20, **FEW)
    stop_after(monkeypatch, blocks)
    with pytest.raises(KeyboardInterrupt):
        kmeans(x, 20, resume=folder, **FEW)
    monkeypatch.setattr("tauten.structure.centroids._lloyd", None)
    given = stop_after(monkeypatch, 99)
    assert_same(kmeans(x, 20, resume=folder, **FEW), whole)
    assert [rows.start for rows in given] == [0, BLOCK, 2 * BLOCK][blocks:]
    assert given[-1].stop == len(x)
    given.clear()
    assert_same(kmeans(x, 20, resume=str(folder), **FEW), whole)
    assert given == []


def test_killed_within_a_block_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, folder = mapped(tmp_path), tmp_path / "state"
    whole = kmeans(x, 20, resume=folder, **FEW)
    number = np.load(folder / "number.npy", "r+")
    number[BLOCK + 7 :] = 0
    given = stop_after(monkeypatch, 99)
    assert_same(kmeans(x, 20, resume=folder, **FEW), whole)
    assert [rows.start for rows in given] == [BLOCK, 2 * BLOCK]


def test_empty_clusters_of_a_resumed_assignment(tmp_path: Path) -> None:
    """Clusters empty in the file but not in the sample: the worst rows of all blocks are found."""
    x = np.array(mapped(tmp_path))
    centroids = np.ascontiguousarray(unit(x)[[0, 0, 0, 1]])
    fresh = Assignment(len(x), None, {})
    fresh.start(centroids)
    whole = assign_all(faiss, UnitRows(x), fresh, BLOCK, False)
    for stopped in (0, BLOCK, 2 * BLOCK, len(x)):
        folder = tmp_path / str(stopped)
        first = Assignment(len(x), folder, {})
        first.start(centroids)
        assign_all(faiss, UnitRows(x), first, BLOCK, False)
        first.number[stopped:] = 0
        again = Assignment(len(x), folder, {})
        found = assign_all(faiss, UnitRows(x), again, BLOCK, False)
        assert np.array_equal(found[0], whole[0])
        assert np.array_equal(found[1], whole[1])
    assert set(whole[0]) == {0, 1, 2, 3}


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "k": ({"k": 21}, "k"),
    "seed": ({"seed": 1}, "seed"),
    "iterations": ({"iterations": 4}, "iterations"),
    "starts": ({"starts": 2}, "starts"),
    "sample": ({"max_points_per_centroid": 41}, "max_points_per_centroid"),
}


@pytest.mark.parametrize("name", OTHER)
def test_state_of_other_settings_is_refused(tmp_path: Path, name: str) -> None:
    x, folder = mapped(tmp_path, 500), tmp_path / "state"
    kmeans(x, k=20, resume=folder, **FEW)
    changed, differing = OTHER[name]
    with pytest.raises(ValueError, match=rf"other inputs \({differing} differ\): delete"):
        kmeans(x, **{"k": 20, "resume": folder, **FEW, **changed})


def test_state_of_other_rows_is_refused(tmp_path: Path) -> None:
    x, folder = mapped(tmp_path, 500), tmp_path / "state"
    kmeans(x, 20, resume=folder, **FEW)
    other = np.array(x)
    other[77, 3] += 1
    for rows, differing in (
        (other, "rows"),
        (x[::-1], "rows"),
        (x[:-1], "shape, rows"),
        (x.astype(np.float64), "dtype"),
    ):
        with pytest.raises(ValueError, match=rf"other inputs \({differing} differ\)"):
            kmeans(rows, 20, resume=folder, **FEW)


@pytest.mark.parametrize("content", [b"", b"no clusters"])
def test_folder_that_keeps_no_clusters_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "centroids.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"centroids\.npz keeps no clusters"):
        kmeans(torch.eye(3), 2, resume=tmp_path)


def test_rows_of_an_array_are_checked_when_they_are_read(tmp_path: Path) -> None:
    x = np.array(mapped(tmp_path))
    x[BLOCK + 5, 3] = np.nan
    with pytest.raises(ValueError, match=rf"1 embeddings are not finite, first: row {BLOCK + 5}"):
        kmeans(x, 20, **FEW)
    x[BLOCK + 5] = 0
    with pytest.raises(ValueError, match=rf"1 embeddings are zero .* first: row {BLOCK + 5}"):
        kmeans(x, 20, **FEW)


def test_rows_of_a_tensor_are_all_checked_before_the_fit(tmp_path: Path) -> None:
    x = torch.tensor(mapped(tmp_path))
    x[[BLOCK + 5, 2 * BLOCK + 5], 3] = torch.nan
    with pytest.raises(ValueError, match=rf"2 embeddings are not finite, first: row {BLOCK + 5}"):
        kmeans(x, 20, **FEW)


def test_arrays_are_left_alone(tmp_path: Path) -> None:
    x = np.array(mapped(tmp_path, 200, "float64"))
    tensor = torch.tensor(x)
    before = x.copy()
    kmeans(x, 20, **FEW)
    kmeans(tensor, 20, **FEW)
    assert np.array_equal(x, before)
    assert np.array_equal(tensor.numpy(), before)
