"""Published losses that calls of ours express, against their formulas in float64."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

import tauten as tt
from compared import check
from tauten.candidates import Keys, MomentumEncoder, SignNoise, class_means
from tauten.models import mix_backgrounds
from tauten.pairwise import PairMask
from tauten.pairwise.nearest import topk_pairs
from tauten.relations import Codes, Given, PairWeights, Teacher, geodesics, sinkhorn

TILES = ["dense", (2, 3)]
every_tile = pytest.mark.parametrize("tile", TILES)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def cosines(a, b):
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def self_distilled(x, y, keys, tau, share_of_kl, tile="dense"):
    """CE(onehot, S/τ) + λ·KL(teacher ‖ S/τ), as one cross-entropy less the teacher's entropy."""
    share = share_of_kl / (1 + share_of_kl)
    loss_fn = tt.InfoNCE(tau, tile=tile)
    teacher = Teacher(keys.x, keys.y, tau, share=share)
    return (1 + share_of_kl) * loss_fn(x, y, keys=keys, targets=teacher)


@every_tile
def test_micro_batches_meet_the_teachers_keys_of_the_whole_batch(tile):
    """MSD: the denominator of a micro-batch of b has all k·b keys."""
    b, k, tau, weight = 3, 4, 0.2, 0.7
    x, y = drawn(b * k, 5).requires_grad_(), drawn(b * k, 5, seed=1).requires_grad_()
    kx, ky = drawn(b * k, 5, seed=2), drawn(b * k, 5, seed=3)
    found = expected = 0
    for part in range(k):
        order = torch.arange(b * k).roll(-b * part)
        rows = order[:b]
        keys = Keys(kx[order], ky[order], order)
        found = found + self_distilled(x[rows], y[rows], keys, tau, weight, tile) / k
        for anchors, here, there in ((x, kx, ky), (y, ky, kx)):
            log_p = (cosines(anchors[rows], there) / tau).log_softmax(1)
            teacher = (cosines(here[rows], there) / tau).softmax(1)
            assert log_p.shape == (b, b * k)
            own = F.nll_loss(log_p, rows)
            kl = F.kl_div(log_p, teacher, reduction="batchmean")
            entropy = -(teacher * teacher.log()).sum(1).mean()
            expected = expected + (own + weight * (kl + entropy)) / 2 / k
    check(found, expected, [x, y])


def test_micro_batches_keep_the_memory_of_one():
    """MSD: only the micro-batch's own activations are kept for the backward pass."""
    b, k, width = 8, 6, 2048
    encoder = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 16))
    slow = MomentumEncoder(encoder)
    inputs = torch.randn(2, b * k, 32, generator=torch.Generator().manual_seed(0))

    weights = {weight.untyped_storage().data_ptr() for weight in encoder.parameters()}

    def kept(rows, step):
        seen = {}

        def note(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            loss = step(rows)
        loss.backward()
        return sum(seen.values())

    def distilled(rows):
        order = torch.arange(b * k)
        keys = Keys(slow(inputs[0]), slow(inputs[1]), order)
        return self_distilled(*(encoder(side[rows]) for side in inputs), keys, 0.1, 1.0)

    def plain(rows):
        return tt.InfoNCE(0.1)(*(encoder(side[rows]) for side in inputs))

    micro, whole = slice(0, b), slice(None)
    assert kept(micro, distilled) < 1.3 * kept(micro, plain)
    assert kept(micro, distilled) < 0.3 * kept(whole, plain)


def test_the_student_scores_what_the_teacher_finds_hard():
    """DCD: k negatives of each anchor by the teacher, and 1 + k passes of the student."""
    n, k, tau = 6, 2, 0.5
    teacher = nn.Bilinear(5, 5, 1).double().requires_grad_(False)
    x, y = drawn(n, 5).requires_grad_(), drawn(n, 5, seed=1).requires_grad_()
    every = torch.stack([teacher(x.detach(), row.expand(n, 5)).squeeze(1) for row in y.detach()], 1)
    _, hard = topk_pairs(every, torch.eye(n).double(), k, own_row(n), cosine=False)
    columns = torch.cat([torch.arange(n)[:, None], hard], dim=1)
    passes = []

    def student(left, right):
        passes.append(len(left))
        return (left * right).sum(1)

    pairs = student(x.repeat_interleave(1 + k, 0), y[columns.flatten()]).view(n, 1 + k)
    teaching = (every.gather(1, columns) / tau).softmax(1)
    loss_fn = tt.InfoNCE(tau, directions="x2y", normalize=False, reduction="none")
    found = 2 * loss_fn(
        pairs,
        torch.eye(1 + k, dtype=torch.float64),
        positives=torch.zeros(n, dtype=torch.long),
        targets=Given(teaching, share=0.5),
    )
    entropy = -(teaching * teaching.log()).sum(1)
    doubt = entropies((pairs / tau).softmax(1).detach())
    weight = doubt / (doubt + entropy)  # of the sample's difficulty
    assert passes == [n * (1 + k)]
    log_p = (pairs / tau).log_softmax(1)
    kl = (teaching * (teaching.log() - log_p)).sum(1)
    others = every.masked_fill(torch.eye(n).bool(), -torch.inf)
    assert [set(row) for row in hard.tolist()] == [
        set(row) for row in others.topk(k, dim=1).indices.tolist()
    ]
    check((weight * (found - entropy)).sum(), (weight * (kl - log_p[:, 0])).sum(), [x, y])


def own_row(n):
    return PairMask(torch.arange(n), own=True, diagonal=0)


def entropies(p):
    return -(p * p.log()).sum(1)


CLUSTER = torch.tensor([4, 0, 4, 2, 0, 4])


def means(z, clusters):
    """The mean of the unit rows of each cluster that is there."""
    units = F.normalize(z, dim=1)
    return torch.stack([units[clusters == c].mean(0) for c in clusters.unique()])


@every_tile
def test_prototypes_meet_the_means_of_what_is_routed_to_them(tile):
    """ProMoE: an expert that got no token is left out."""
    tokens, experts = drawn(6, 5).requires_grad_(), drawn(5, 5, seed=1).requires_grad_()
    loss_fn = tt.InfoNCE(0.1, directions="x2y", tile=tile)
    mean, ids = class_means(tokens, CLUSTER, 5)
    assert ids.tolist() == [0, 2, 4]
    found = loss_fn(experts[ids], mean)
    present = [0, 2, 4]
    logits = cosines(experts[present], means(tokens, CLUSTER)) / 0.1
    check(found, F.cross_entropy(logits, torch.arange(3)), [tokens, experts])


@every_tile
def test_each_sample_is_told_the_mean_of_its_cluster_on_the_other_side(tile):
    """PriorCLIP: CLIP and affiliation, with one column for each distinct cluster."""
    x, y = drawn(6, 5).requires_grad_(), drawn(6, 5, seed=1).requires_grad_()
    affiliation = tt.InfoNCE(0.5, directions="x2y", tile=tile)
    found = tt.InfoNCE(0.1, tile=tile)(x, y)
    for anchors, others in ((x, y), (y, x)):
        mean, ids = class_means(others, CLUSTER, 5)
        found = found + 0.3 / 2 * affiliation(anchors, mean, labels=(CLUSTER, ids))
    rows, s = torch.arange(6), cosines(x, y) / 0.1
    column = torch.searchsorted(CLUSTER.unique(), CLUSTER)
    expected = (F.cross_entropy(s, rows) + F.cross_entropy(s.T, rows)) / 2
    for anchors, others in ((x, y), (y, x)):
        logits = cosines(anchors, means(others, CLUSTER)) / 0.5
        expected = expected + 0.3 / 2 * F.cross_entropy(logits, column)
    check(found, expected, [x, y])


def test_affiliation_has_no_floor_of_duplicate_columns():
    """PriorCLIP's public code keeps a column for each sample: log of the cluster's size remains."""
    z = torch.eye(5, dtype=torch.float64)[CLUSTER]
    mean, ids = class_means(z, CLUSTER, 5)
    loss_fn = tt.InfoNCE(0.01, directions="x2y")
    assert float(loss_fn(z, mean, labels=(CLUSTER, ids))) == pytest.approx(0.0, abs=1e-12)
    sizes = torch.bincount(CLUSTER)[CLUSTER].double()
    repeated = F.cross_entropy(cosines(z, means(z, CLUSTER)[column_of(CLUSTER)]) / 0.01, ROWS)
    assert float(repeated) == pytest.approx(float(sizes.log().mean()))


ROWS = torch.arange(6)


def column_of(clusters):
    return torch.searchsorted(clusters.unique(), clusters)


@pytest.mark.parametrize("normalized", [True, False])
def test_weights_of_negatives_may_be_learned(normalized):
    """AdaMEOW: w_ij = σ(MLP(z_i + z_j)); scores s_ij + τ·log w_ij against the identity."""
    n, tau = 6, 0.3
    x, y = drawn(n, 5).requires_grad_(), drawn(n, 5, seed=1).requires_grad_()
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    s = cosines(x, y) if normalized else x @ y.T
    log_w = F.logsigmoid(layers(x[:, None] + y[None]).squeeze(2)).masked_fill(eye(n), 0.0)
    loss_fn = tt.DCL(tau, directions="x2y", normalize=False)
    columns = torch.eye(n, dtype=torch.float64)
    found = loss_fn(s + tau * log_w, columns)
    below = (log_w.exp() * (s / tau).exp()).masked_fill(eye(n), 0.0).sum(1)
    parameters = [x, y, *layers.parameters()]
    check(found, (below.log() - s.diagonal() / tau).mean(), parameters)
    # one weight for all is DCL
    same = torch.full((n, n), 0.3, dtype=torch.float64).log().masked_fill(eye(n), 0.0)
    plain = tt.DCL(tau, directions="x2y", normalize=normalized)(x, y)
    check(loss_fn(s + tau * same, columns) - same[0, 1], plain, [x, y])


@every_tile
def test_weights_of_negatives_count_shared_clusters(tile):
    """MEOW: w_ij = M − Σ_m 1[c_m(i) = c_m(j)] over M runs of k-means; one weight is DCL."""
    runs = torch.tensor([[0, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1, 2], [0, 0, 1], [2, 1, 0]])
    x, y = drawn(6, 5).requires_grad_(), drawn(6, 5, seed=1).requires_grad_()
    loss_fn = tt.DCL(0.3, directions="x2y", tile=tile)
    counts = PairWeights(runs, runs, lambda a, b: 3.0 - (a[:, None] == b).sum(2))
    w = 3.0 - (runs[:, None] == runs).sum(2).double()
    logits = cosines(x, y) / 0.3
    told = ((w.masked_fill(eye(6), 0.0) * logits.exp()).sum(1).log() - logits.diagonal()).mean()
    check(loss_fn(x, y, repulsion=counts), told, [x, y])
    apart = torch.arange(6)[:, None] * torch.ones(1, 3)  # no two samples share a cluster
    even = PairWeights(apart, apart, lambda a, b: 3.0 - (a[:, None] == b).sum(2))
    three = torch.tensor(3.0, dtype=torch.float64).log()
    check(loss_fn(x, y, repulsion=even) - three, loss_fn(x, y), [x, y])


def eye(n):
    return torch.eye(n, dtype=torch.bool)


TERMS = ("i2t", "t2i", "i2i", "t2t", "local i", "local t")


def triple(x, y, slow, locals_, taus, on, tile):
    """TCL by calls of ours: six losses, each with a temperature of its own."""
    kx, ky, lx, ly = *slow, *locals_
    n, ids = len(x), torch.arange(len(kx))
    one = {"directions": "x2y", "tile": tile}
    losses = {name: tt.InfoNCE(tau, **one) for name, tau in taus.items()}
    pairs, same = ids[:n], [(ids[:n], ids)]
    soft = {"positives": pairs, "same": same}
    calls = {
        "i2t": lambda f: f(x, ky, targets=Teacher(kx[:n], ky, 0.3, share=0.4), **soft),
        "t2i": lambda f: f(y, kx, targets=Teacher(ky[:n], kx, 0.3, share=0.4), **soft),
        "i2i": lambda f: f(x, kx, **soft),
        "t2t": lambda f: f(y, ky, **soft),
        "local i": lambda f: local(f, x, lx),
        "local t": lambda f: local(f, y, ly),
    }
    return sum(calls[name](losses[name]) for name in on) / 6


def local(loss_fn, anchors, parts):
    """Each part of a sample against the parts of all other samples, for its whole."""
    of_part = torch.arange(len(anchors)).repeat_interleave(parts.shape[1])
    decoupled = tt.DecoupledSoftmax(loss_fn.strength, directions="x2y", tile=loss_fn.tile)
    return decoupled(anchors, parts.flatten(0, 1), labels=(torch.arange(len(anchors)), of_part))


@every_tile
@pytest.mark.parametrize("on", [TERMS, *[(name,) for name in TERMS]], ids=lambda on: on[0])
def test_each_of_tcls_six_losses_has_its_own_temperature(on, tile):
    n = 4
    x, y = drawn(n, 5).requires_grad_(), drawn(n, 5, seed=1).requires_grad_()
    kx, ky = drawn(7, 5, seed=2), drawn(7, 5, seed=3)
    lx, ly = drawn(n, 3, 5, seed=4), drawn(n, 2, 5, seed=5)
    taus = dict(zip(TERMS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True))
    found = triple(x, y, (kx, ky), (lx, ly), taus, on, tile)
    rows, eye = torch.arange(n), torch.eye(n, 7).double()

    def soft(anchors, keys, teacher, tau):
        q = 0.4 * (cosines(teacher, keys) / 0.3).softmax(1) + 0.6 * eye
        return -(q * (cosines(anchors, keys) / tau).log_softmax(1)).sum(1).mean()

    def of_parts(anchors, parts, tau):
        total = 0
        for i in range(n):
            others = torch.cat([parts[j] for j in range(n) if j != i])
            negatives = (cosines(anchors[i : i + 1], others) / tau).logsumexp(1)
            own = cosines(anchors[i : i + 1], parts[i])[0] / tau
            total = total + (torch.logaddexp(own, negatives) - own).mean() / n
        return total

    expected = {
        "i2t": soft(x, ky, kx[:n], 0.1),
        "t2i": soft(y, kx, ky[:n], 0.2),
        "i2i": F.cross_entropy(cosines(x, kx) / 0.3, rows),
        "t2t": F.cross_entropy(cosines(y, ky) / 0.4, rows),
        "local i": of_parts(x, lx, 0.5),
        "local t": of_parts(y, ly, 0.6),
    }
    wanted = [side for side in (x, y) if len(on) > 1 or (side is x) == (on[0] in TERMS[::2])]
    check(found, sum(expected[name] for name in on) / 6, wanted)


def test_a_clip_with_another_background_is_a_positive_of_its_clip():
    """CoMix: cross-entropy, contrast of fast, slow and mixed clips, and of pseudo-labels."""
    clips, domain = drawn(3, 5, 2), drawn(3, 4, 2, seed=1)
    mixed = mix_backgrounds(clips, 0.5, others=domain, generator=torch.Generator().manual_seed(2))
    share = (mixed - clips) / (domain.median(dim=1, keepdim=True).values - clips)
    assert bool(((share > 0) & (share < 0.5)).all())
    torch.testing.assert_close(share, share[:, :1, :1].expand_as(share))

    encoder, ids = nn.Linear(2, 4).double(), torch.arange(3)
    slow, fast, more = (encoder(part.mean(1)) for part in (clips[:, ::2], clips, mixed))
    labels, pseudo = torch.tensor([1, 0, 1]), torch.tensor([1, 1, 0])
    contrast = tt.SupCon(0.5)
    found = (
        F.cross_entropy(slow, labels)
        + 0.1 * contrast(torch.cat([slow, fast, more]), labels=ids.repeat(3))
        + 0.01 * contrast(torch.cat([slow, fast]), labels=pseudo.repeat(2))
    )
    expected = F.cross_entropy(slow, labels)
    for weight, z, ids_of in (
        (0.1, torch.cat([slow, fast, more]), ids.repeat(3)),
        (0.01, torch.cat([slow, fast]), pseudo.repeat(2)),
    ):
        s, eye = cosines(z, z) / 0.5, torch.eye(len(z)).bool()
        log_p = s.masked_fill(eye, -torch.inf).log_softmax(1).masked_fill(eye, 0.0)
        own = (ids_of[:, None] == ids_of) & ~eye
        expected = expected - weight * ((log_p * own).sum(1) / own.sum(1)).mean()
    check(found, expected, list(encoder.parameters()))


@every_tile
def test_targets_fall_with_the_distance_along_the_graph(tile):
    """G2L: R_ij ∝ exp(−g_ij/δ), g the shortest path between two moments."""
    moments = drawn(6, 3, seed=7)
    x, y = drawn(6, 5).requires_grad_(), drawn(6, 5, seed=1).requires_grad_()
    length, near = 1 - cosines(moments, moments), torch.zeros(6, 6, dtype=torch.bool)
    for i in range(6):
        near[i, sorted((j for j in range(6) if j != i), key=lambda j: float(length[i, j]))[:2]] = 1
    near = near | near.T

    def shortest(start):
        distance, reached = {start: 0.0}, set()
        while set(distance) - reached:
            at = min(set(distance) - reached, key=distance.get)
            reached.add(at)
            for j in near[at].nonzero().flatten().tolist():
                there = distance[at] + float(length[at, j])
                distance[j] = min(distance.get(j, there), there)
        return [distance.get(j, float("inf")) for j in range(6)]

    g = torch.tensor([shortest(i) for i in range(6)], dtype=torch.float64)
    torch.testing.assert_close(geodesics(moments, 2), g)
    loss_fn = tt.InfoNCE(0.2, tile=tile)
    kinds = torch.arange(6)
    found = loss_fn(x, y, targets=Codes((-geodesics(moments, 2) / 0.3).exp(), kinds, kinds))
    s, q = cosines(x, y) / 0.2, (-g / 0.3).exp()
    expected = sum(
        -(F.normalize(weights, p=1, dim=1) * logits.log_softmax(1)).sum(1).mean() / 2
        for logits, weights in ((s, q), (s.T, q.T))
    )
    check(found, expected, [x, y])


def test_moments_that_no_path_joins_have_no_share():
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.01]])
    g = geodesics(apart, 1)
    assert bool(g[:2, 2:].isinf().all())
    assert g[0, 1] == pytest.approx(1 - float(cosines(apart[:1], apart[1:2])), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: class_means(drawn(6, 3), CLUSTER, 3), r"classes must be in 0 .. 2, got 0 .. 4"),
        (lambda: class_means(drawn(5, 3), CLUSTER, 5), "each of 5 rows, got 6"),
        (lambda: class_means(drawn(6, 3), CLUSTER, 0), "count must be at least 1, got 0"),
        (lambda: class_means(drawn(6), CLUSTER, 5), r"floating \(N, d\), got \(6,\)"),
        (lambda: geodesics(drawn(4, 3), 4), r"neighbours must be in 1 .. 3, got 4"),
        (lambda: geodesics(drawn(4), 1), r"floating \(N, d\), got \(4,\)"),
        (lambda: mix_backgrounds(drawn(1, 4, 2)), "comes from another clip"),
        (lambda: mix_backgrounds(drawn(2, 4, 2), 1.5), r"most must be in \[0, 1\], got 1.5"),
        (lambda: mix_backgrounds(drawn(2, 4)), r"floating \(B, T, ...\), got \(2, 4\)"),
        (lambda: mix_backgrounds(drawn(2, 4, 2), others=drawn(2, 4, 3)), "a clip for each"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_clip_rocket_is_smoothed_clip_of_views_with_optional_terms():
    """CLIP-rocket: (L_global + K·L_local)/(1 + K), and BarLIP, SiamLIP and SwALIP beside it."""
    sides = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(0)).double()
    x, y, p, v, *local = (side.requires_grad_() for side in sides)
    tau, eps = 0.1, 0.05
    smoothed = tt.InfoNCE(tau, label_smoothing=0.1).double()
    views = [smoothed(local[k], local[k + 2]) for k in range(2)]
    found = (smoothed(x, y) + 2 * sum(views) / 2) / 3
    found = found + 0.025 * tt.terms.CrossCorrelation()(p, v)
    found = found + tt.terms.Distillation()(p, v)
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    swapped = tt.InfoNCE(tau, directions="x2y").double()
    assigned = Given(sinkhorn(s, "uniform", eps=eps)), Given(sinkhorn(s.T, "uniform", eps=eps))
    found = found + 0.2 * (swapped(x, y, targets=assigned[0]) + swapped(y, x, targets=assigned[1]))

    def clip(a, b):
        logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / tau
        own = torch.arange(len(a))
        return (
            F.cross_entropy(logits, own, label_smoothing=0.1)
            + F.cross_entropy(logits.T, own, label_smoothing=0.1)
        ) / 2

    told = (clip(x, y) + clip(local[0], local[2]) + clip(local[1], local[3])) / 3
    first, second = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (p, v))
    off = (first.T @ second / len(p) - torch.eye(4).double()).square()
    told = told + 0.025 * (off.trace() + 5e-3 * (off.sum() - off.trace()))
    told = told + (2 - 2 * F.cosine_similarity(p, v.detach(), dim=1)).mean()
    for score in (s, s.T):
        q = (score.detach() / eps).exp()
        for _ in range(3):
            q = q / q.sum(0)
            q = q / q.sum(1, keepdim=True)
        told = told - 0.2 * (q * (score / tau).log_softmax(1)).sum(1).mean()
    check(found, told, [x, y, p, *local])


def graph(users, items, degrees, generator):
    """Return the symmetric normalised adjacency of users and items, and the pairs in it."""
    pairs = [
        (user, int(item))
        for user, degree in enumerate(degrees)
        for item in torch.randperm(items, generator=generator)[:degree]
    ]
    whole = torch.zeros(users + items, users + items, dtype=torch.float64)
    for user, item in pairs:
        whole[user, users + item] = whole[users + item, user] = 1.0
    scale = whole.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * whole * scale, torch.tensor(pairs)


def test_xsimgcl_contrasts_the_last_layer_of_a_graph_with_an_earlier_one():
    """BPR + λ·(InfoNCE of users + InfoNCE of items), noise of a length at each layer."""
    generator = torch.Generator().manual_seed(0)
    users, items, eps, tau, share = 5, 7, 0.2, 0.15, 0.2
    adjacency, pairs = graph(users, items, [4, 3, 2, 1, 1], generator)
    start = torch.randn(users + items, 4, generator=generator, dtype=torch.float64).requires_grad_()
    noise, loss_fn = SignNoise(eps), tt.InfoNCE(tau, directions="x2y").double()

    def ours(draws):
        layers, layer = [], start
        for _ in range(3):
            layer = noise(adjacency @ layer, draws)
            layers.append(layer)
        final = torch.stack(layers).mean(0)
        return final, layers[0]

    final, early = ours(torch.Generator().manual_seed(3))
    batch, negatives = pairs[::2], torch.tensor([0, 5, 6, 2, 1, 3])[: len(pairs[::2])]
    who, what = batch[:, 0].unique(), batch[:, 1].unique()
    found = (
        share * sum(loss_fn(final[rows], early[rows]) for rows in (who, users + what))
        - F.logsigmoid(
            (final[batch[:, 0]] * (final[users + batch[:, 1]] - final[users + negatives])).sum(1)
        ).mean()
    )

    draws, layers = torch.Generator().manual_seed(3), []
    layer = start
    for _ in range(3):
        layer = adjacency @ layer
        u = torch.rand(layer.shape, generator=draws, dtype=torch.float64)
        step = eps * layer.detach().sign() * u / u.norm(dim=1, keepdim=True)
        torch.testing.assert_close(
            step.norm(dim=1)[layer.abs().sum(1) > 0].max(), step.new_tensor(eps)
        )
        layer = layer + step
        layers.append(layer)
    mean = (layers[0] + layers[1] + layers[2]) / 3
    told = 0
    for rows in (who, users + what):
        a, b = F.normalize(mean[rows], dim=1), F.normalize(layers[0][rows], dim=1)
        told = told + share * F.cross_entropy(a @ b.T / tau, torch.arange(len(rows)))
    scores = mean[:users] @ mean[users:].T
    for (user, item), other in zip(batch.tolist(), negatives.tolist(), strict=True):
        told = told - F.logsigmoid(scores[user, item] - scores[user, other]) / len(batch)
    check(found, told, [start])
