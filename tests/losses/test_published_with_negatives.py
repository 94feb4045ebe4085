"""Published losses with own negatives, queues and lists, as calls of ours, in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check
from tauten import terms
from tauten.candidates import KeyQueue, MomentumEncoder

TILES = ["dense", (2, 3)]
every_tile = pytest.mark.parametrize("tile", TILES)
N, K, P, D = 4, 3, 2, 5


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def unit(rows):
    return F.normalize(rows, dim=-1)


@every_tile
def test_degla_has_the_negatives_of_all_in_one_part_and_only_its_own_in_two(tile):
    """DeGLA: L_clip with N(1 + K) captions, two losses of own negatives alone, distillation."""
    images, texts, wrong = drawn(N, D), drawn(N, D, seed=1), drawn(N, K, D, seed=2)
    old_images, old_texts = drawn(N, D, seed=3).detach(), drawn(N, D, seed=4).detach()
    others = ~torch.eye(N, dtype=torch.bool)
    clip, own = tt.InfoNCE(0.07, tile=tile), {"negatives": wrong, "ignore": others}
    igc = tt.InfoNCE(0.07, directions="x2y", tile=tile)
    tgc = tt.InfoNCE(0.1, directions="x2y", tile=tile)
    distil = terms.Distillation()
    found = (
        clip(images, torch.cat([texts, wrong.flatten(0, 1)]))
        + igc(images, texts, **own)
        + tgc(texts, old_texts, **own)
        + N * (distil(images, old_images) + distil(texts, old_texts))
    )
    i, t, n, i0, t0 = (unit(rows) for rows in (images, texts, wrong, old_images, old_texts))
    first, whole = torch.zeros(N, dtype=torch.int64), torch.cat([t, n.flatten(0, 1)])
    clips = (
        F.cross_entropy(i @ whole.T / 0.07, torch.arange(N))
        + F.cross_entropy(t @ i.T / 0.07, torch.arange(N))
    ) / 2

    def own_only(anchors, right):
        logits = [(anchors * right).sum(1, keepdim=True), torch.einsum("nd,nkd->nk", anchors, n)]
        return torch.cat(logits, dim=1)

    expected = (
        clips
        + F.cross_entropy(own_only(i, t) / 0.07, first)
        + F.cross_entropy(own_only(t, t0) * 10, first)
        + (i - i0).square().sum()
        + (t - t0).square().sum()
    )
    check(found, expected, [images, texts, wrong])
    # the captions of other samples are masked: one anchor's loss has no gradient for them
    alone = tt.InfoNCE(0.07, directions="x2y", reduction="none", tile=tile)(images, texts, **own)
    gradient = torch.autograd.grad(alone[1], [texts, wrong])
    for side in gradient:
        assert side[1].abs().sum() > 0
        assert side[others[1]].abs().sum() == 0


@every_tile
def test_compa_masks_by_minus_infinity(tile):
    """CompA: own negatives beside all captions; then captions of growing detail as positives."""
    audio, texts, wrong = drawn(N, D), drawn(N, P, D, seed=1), drawn(N, K, D, seed=2)
    a, t, n = unit(audio), unit(texts), unit(wrong)
    second = tt.InfoNCE(0.2, directions="x2y", tile=tile)(audio, texts[:, 0], negatives=wrong)
    own = torch.einsum("nd,nkd->nk", a, n)
    expected = F.cross_entropy(torch.cat([a @ t[:, 0].T, own], 1) / 0.2, torch.arange(N))
    check(second, expected, [audio, texts, wrong])

    owner = torch.arange(N).repeat_interleave(P)
    third = tt.InfoNCE(0.2, tile=tile)(
        audio, texts.flatten(0, 1), labels=(torch.arange(N), owner), negatives=wrong
    )
    whole, every = t.flatten(0, 1), -a @ n.flatten(0, 1).T
    logits = torch.cat([a @ whole.T, -every], 1) / 0.2
    mine = torch.arange(N).repeat_interleave(K) == torch.arange(N)[:, None]
    logits = logits + F.pad(torch.zeros(N, N * K).masked_fill(~mine, -torch.inf), (N * P, 0))
    log_p = logits.log_softmax(1)
    of_audio = -torch.stack([log_p[i, owner.eq(i).nonzero().flatten()].mean() for i in range(N)])
    of_texts = F.cross_entropy(whole @ a.T / 0.2, owner)
    check(third, (of_audio.mean() + of_texts) / 2, [audio, texts, wrong])


@every_tile
def test_blockrank_takes_the_sum_of_the_attention_on_relevant_documents(tile):
    """BlockRank: LSE over documents minus LSE over the relevant ones, of attention mass."""
    mass = drawn(N, D).softmax(1).detach().requires_grad_()
    relevant = torch.tensor([[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]])
    query = torch.arange(N).repeat_interleave(D)
    rows = torch.zeros(N, N * D, dtype=torch.float64)
    rows = rows.masked_scatter(query == torch.arange(N)[:, None], mass.flatten())
    labels = torch.where(relevant.flatten() > 0, query, N + torch.arange(N * D))
    loss_fn = tt.InfoNCE(0.05, normalize=False, directions="x2y", positives="logsum", tile=tile)
    found = loss_fn(
        rows,
        torch.eye(N * D, dtype=torch.float64),
        labels=(torch.arange(N), labels),
        ignore=query != torch.arange(N)[:, None],
    )
    logits = mass / 0.05
    right = logits.masked_fill(relevant == 0, -torch.inf)
    check(found, (logits.logsumexp(1) - right.logsumexp(1)).mean(), [mass])


@pytest.mark.parametrize("scale", [14.0, 250.0])
def test_oneformer_compares_flattened_queries_with_a_clamped_scale(scale):
    """OneFormer: cross-entropy of flattened object queries and text queries, scale <= 100."""
    objects, texts = drawn(N, K, D), drawn(N, K, D, seed=1)
    loss_fn = tt.InfoNCE(tt.Learnable(1 / 14, low=1 / 100, high=1.0)).double()
    with torch.no_grad():
        loss_fn.strength.parameter.fill_(-math.log(scale))
    found = loss_fn(objects.flatten(1), texts.flatten(1))
    logits = min(scale, 100.0) * unit(objects.flatten(1)) @ unit(texts.flatten(1)).T
    each = [F.cross_entropy(side, torch.arange(N)) for side in (logits, logits.T)]
    check(found, sum(each) / 2, [objects, texts])


def test_cocosoda_has_six_directions_and_queues_of_two_kinds():
    """CoCoSoDa: CE over the batch and a queue; plain queues are of the encoder itself."""
    torch.manual_seed(0)
    encoder = torch.nn.Linear(D, D).double()
    slow = MomentumEncoder(encoder, 0.5)
    queues = {name: KeyQueue(2 * N, D).double() for name in ("code", "text", "code'", "text'")}
    pairs = [("code", "text"), ("code", "text'"), ("text", "code"), ("text", "code'")]
    pairs += [("code", "code'"), ("text", "text'")]
    loss_fn = tt.InfoNCE(0.07, directions="x2y")
    code = torch.randn(60, D, dtype=torch.float64)
    text = code + 0.8 * torch.randn(60, D, dtype=torch.float64)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.3)

    def mrr():
        return tt.evaluation.retrieval(encoder(text), encoder(code), torch.arange(60), bootstrap=0)

    before = mrr()["x2y/MRR"]
    for step in range(30):
        index = torch.arange(60).roll(-N * step)[:N]
        sides = {"code": encoder(code[index]), "text": encoder(text[index])}
        for name, rows in (("code'", code), ("text'", text)):
            kept = (torch.rand(N, D) > 0.15).double()
            sides[name] = slow(rows[index] * kept)
        total = expected = 0
        for one, other in pairs:
            keys, ids = queues[other].candidates(sides[other], index)
            total = total + loss_fn(
                sides[one], keys, (index, ids), positives=torch.arange(N), same=[(index, ids)]
            )
            past = queues[other]._keys[: len(queues[other])]
            logits = unit(sides[one]) @ unit(torch.cat([sides[other], past])).T / 0.07
            expected = expected + F.cross_entropy(logits, torch.arange(N))
        check(total, expected, list(encoder.parameters()))
        optimizer.zero_grad()
        total.backward()
        for name, queue in queues.items():
            queue.push(sides[name], index)
        optimizer.step()
        slow.update(encoder)
    for name in queues:
        place = queues[name]._keys[(30 * N - N) % (2 * N) :][:N]
        torch.testing.assert_close(place, sides[name].detach())
    assert mrr()["x2y/MRR"] > before
