import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from tauten.structure import caption_clusters, kmeans
from tauten.structure.clustering import _assign_all


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
    assignment, centroids = _assign_all(faiss, x, start)
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


@pytest.mark.parametrize("setting", ["iterations", "max_points_per_centroid"])
def test_settings_below_one(setting: str) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got"):
        kmeans(torch.eye(3), 2, **{setting: 0})  # type: ignore[arg-type]
