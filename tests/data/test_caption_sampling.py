"""Captions are uniform among the sentences of relevancy above the threshold, and reproducible."""

import pytest
import torch

from tauten.data.caption_sampling import Candidates, CaptionSampler
from tauten.data.relevancy import Relevancy

N, M = 40, 30


@pytest.fixture
def relevancy():
    generator = torch.Generator().manual_seed(0)
    table = torch.tensor([0.0, 0.05, 0.1, 0.25, 1.0])[torch.randint(5, (6, 8), generator=generator)]
    table[:, 0] = 0.5
    rows = torch.randint(6, (N,), generator=generator)
    cols = torch.randint(8, (M,), generator=generator)
    cols[0] = 0
    return Relevancy(table, rows, cols)


def test_candidates_are_strictly_above_the_threshold(relevancy):
    """An overlap of one noun in five gives exactly 0.1, which the published rule leaves out."""
    whole, found = relevancy.dense(), Candidates(relevancy, 0.1)
    assert bool((whole == 0.1).any())
    assert len(found) == N
    for clip in range(N):
        expected = (whole[clip] > 0.1).nonzero().flatten()
        assert torch.equal(found[clip].long(), expected)
        assert int(found.counts()[clip]) == len(expected)


def test_one_noun_in_five_is_left_out():
    exact = Relevancy.from_actions([(0, {1, 2, 3, 4, 5})], [(1, {1}), (1, {1, 2})], progress=False)
    assert Candidates(exact, 0.1)[0].tolist() == [1]


def test_a_caption_depends_on_seed_epoch_and_clip_alone(relevancy):
    sampler = CaptionSampler(relevancy, seed=3)
    clips = torch.arange(N)
    first, weights = sampler.sample(clips, epoch=5)
    assert torch.equal(weights, relevancy.of(clips, first))
    assert bool((weights > 0.1).all())
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    again = CaptionSampler(relevancy, seed=3)
    again.sample(clips, epoch=8)
    parts = [again.sample(part, epoch=5)[0] for part in order.split(7)]
    assert torch.equal(torch.cat(parts), first[order])
    assert not torch.equal(sampler.sample(clips, epoch=6)[0], first)
    assert not torch.equal(CaptionSampler(relevancy, seed=4).sample(clips, epoch=5)[0], first)


def test_captions_are_uniform(relevancy):
    """Chi-square over 3,000 epochs; 3.5 standard deviations of its distribution."""
    sampler, clips = CaptionSampler(relevancy), torch.arange(N)
    drawn = torch.stack([sampler.sample(clips, epoch)[0] for epoch in range(3000)])
    for clip in range(N):
        candidates = sampler.candidates[clip].long()
        counts = torch.bincount(drawn[:, clip], minlength=M)
        assert int(counts[candidates].sum()) == 3000
        k = len(candidates)
        expected = 3000 / k
        chi = float(((counts[candidates] - expected) ** 2 / expected).sum())
        assert abs(chi - (k - 1)) <= 3.5 * (2 * max(k - 1, 1)) ** 0.5


def test_what_is_refused(relevancy):
    with pytest.raises(ValueError, match="clips have no sentence of relevancy > 0.99"):
        CaptionSampler(Relevancy(relevancy.table * 0.9, relevancy.rows, relevancy.cols), 0.99)
    with pytest.raises(ValueError, match="epoch must be >= 0, got -1"):
        CaptionSampler(relevancy).sample(torch.arange(3), -1)
