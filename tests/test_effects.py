"""Small trainings in which a method has the effect that its paper claims, on made data.

Bounds are far from what is measured, so that they hold on any processor.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tauten as tt
from tauten import terms


def network(inputs, outputs, hidden=32):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def fit(loss_of, modules, steps, lr):
    """Take steps on a loss of 64 positions among the first 300."""
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        loss = loss_of(torch.randint(0, 300, (64,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_terms_close_the_gap_of_a_trained_model_and_keep_its_recall():
    """It's Not a Modality Gap: alignment and uniformity within and across modalities."""
    z = torch.randn(400, 8)
    x, y = z + 0.3 * torch.randn(400, 8), z @ torch.randn(8, 8) + 0.3 * torch.randn(400, 8)
    images, texts = network(8, 8), network(8, 8)
    with torch.no_grad():  # both sides begin in cones of their own
        images[2].bias[0] += 1.5
        texts[2].bias[0] -= 1.5
    clip = tt.InfoNCE(0.05)
    spread, near, across = terms.Uniformity(), terms.Alignment(), terms.CrossUniformity()

    def with_terms(i):
        a, b = images(x[i]), texts(y[i])
        return clip(a, b) + near(a, b) + (spread(a) + spread(b)) / 2 + across(a, b)

    def measured():
        a, b = images(x[300:]).detach(), texts(y[300:]).detach()
        shape = tt.evaluation.geometry(a, b, separability=True)
        found = tt.evaluation.retrieval(a, b, torch.arange(100), bootstrap=0)
        recall = (found["x2y/hit@1"] + found["y2x/hit@1"]) / 2
        return shape["modality_gap"], shape["separability"], recall

    fit(lambda i: clip(images(x[i]), texts(y[i])), (images, texts), 120, 5e-3)
    before = measured()
    fit(with_terms, (images, texts), 120, 5e-3)
    after = measured()
    assert after[0] < 0.6 * before[0]
    assert after[1] < before[1] - 0.1
    assert after[2] > before[2] - 0.01


def test_comparing_queries_raises_the_area_under_the_curve():
    """MW: an offset of a query's scores costs InfoNCE nothing, and the AUC much."""
    z = torch.randn(400, 6)
    kind = F.one_hot(torch.randint(0, 3, (400,)), 3).float()
    x, y = torch.cat([z + 0.3 * torch.randn(400, 6), kind], 1), z + 0.3 * torch.randn(400, 6)
    begun, other = nn.Linear(9, 7), nn.Linear(6, 6)
    with torch.no_grad():
        begun.weight[6] = torch.tensor([0.0] * 6 + [-4.0, 0.0, 4.0])
    found = {}
    options = {"normalize": False, "directions": "x2y"}
    for loss_fn in (tt.InfoNCE(1.0, **options), tt.MannWhitney(1.0, **options)):
        f, h = nn.Linear(9, 7), nn.Linear(6, 6)
        f.load_state_dict(begun.state_dict())
        h.load_state_dict(other.state_dict())

        def sides(i, f=f, h=h):
            return f(x[i]), F.pad(h(y[i]), (0, 1), value=1.0)  # the last score is an offset

        fit(lambda i, loss_fn=loss_fn, sides=sides: loss_fn(*sides(i)), (f, h), 100, 3e-2)
        a, b = (side.detach() for side in sides(torch.arange(300, 400)))
        area = tt.evaluation.pair_auc(a, b, torch.arange(100), normalize=False)
        found[type(loss_fn)] = area["AUC"]
    assert found[tt.MannWhitney] > found[tt.InfoNCE] + 0.03


def test_a_loss_within_a_modality_raises_retrieval_within_it():
    """Cross the Gap: only the loss between modalities leaves images of a class apart."""
    labels, centre = torch.randint(0, 20, (500,)), torch.randn(20, 10)
    seen = centre[labels] + 0.6 * torch.randn(500, 10)
    x = torch.cat([seen, 1.5 * torch.randn(500, 10)], 1)  # of which captions say nothing
    y = centre[labels] + 0.6 * torch.randn(500, 10)
    clip, found = tt.InfoNCE(0.1), []

    def view(i):
        return torch.cat([x[i, :10], 1.5 * torch.randn(len(i), 10)], 1)

    for within in (False, True):
        images, texts = network(20, 16), network(10, 16)

        def loss_of(i, images=images, texts=texts, within=within):
            loss = clip(images(x[i]), texts(y[i]))
            return loss + clip(images(view(i)), images(view(i))) if within else loss

        fit(loss_of, (images, texts), 120, 3e-3)
        rows = images(x[300:]).detach(), labels[300:].tolist(), texts(y[300:]).detach()
        metrics = tt.evaluation.class_retrieval(*rows, y_of_x=torch.arange(200), bootstrap=0)
        start = torch.zeros(200, 10)
        words = tt.evaluation.inverted(rows[0], texts, start, steps=100, lr=0.05)
        again = F.cosine_similarity(texts(words), rows[0])
        assert again.mean() > F.cosine_similarity(texts(start), rows[0]).mean() + 0.3
        crossed = tt.evaluation.class_retrieval(
            *(texts(words).detach(), rows[1], rows[0]), y_of_x=torch.arange(200), bootstrap=0
        )
        found.append((metrics["x2x/mAP"], metrics["x2y/mAP"], crossed["x2y/mAP"]))
    assert found[1][0] > found[0][0] + 0.05
    assert all(0 < value <= 1 for value in (*found[0], *found[1]))


def test_two_heads_part_what_both_sets_share_from_what_one_has():
    """SepCLR: the common head does not know the digit, the salient one does."""
    kinds, digits, scores = 3 * torch.eye(4, 8), 3 * torch.eye(4, 8), []

    def sample(kind, digit=None):
        beside = torch.zeros(len(kind), 8) if digit is None else digits[digit]
        return torch.cat([kinds[kind], beside], 1) @ mix + 0.4 * torch.randn(len(kind), 16)

    near, spread, joint = terms.Alignment(), terms.Uniformity(1.0), terms.JointEntropy(0.5)
    constant = F.normalize(torch.ones(64, 2))
    for _ in range(2):
        mix = torch.linalg.qr(torch.randn(16, 16))[0]
        common, salient = network(16, 2, 64), network(16, 2, 64)

        def loss_of(_, common=common, salient=salient):
            kind, digit, other = torch.randint(0, 4, (3, 64))
            views = [(sample(kind, digit), sample(other)) for _ in range(2)]
            c, c_again = (common(torch.cat(pair)) for pair in views)
            s, s_again = (salient(target) for target, _ in views)
            still = near(salient(views[0][1]), constant)
            both = joint(c[:64], s)
            return near(c, c_again) + spread(c) + near(s, s_again) + spread(s) + still + both

        fit(loss_of, (common, salient), 250, 5e-3)
        kind, digit = torch.randint(0, 4, (2, 600))
        x = sample(kind, digit)
        scores.append([probed(head(x), digit) for head in (common, salient)])
    of_common, of_salient = torch.tensor(scores).mean(0).tolist()
    assert of_salient > 0.75
    assert of_common < min(0.5, of_salient - 0.3)


def probed(rows, labels):
    """Accuracy of a least-squares probe of squares, too, trained on one half."""
    z = F.normalize(rows).detach()
    z = torch.cat([z, z.square(), torch.ones(len(z), 1)], 1)
    half = len(z) // 2
    weight = torch.linalg.lstsq(z[:half], F.one_hot(labels[:half], 4).float()).solution
    return float(((z[half:] @ weight).argmax(1) == labels[half:]).float().mean())


def test_protected_groups_get_no_worse_than_they_were():
    """DevSafety: head and tail are protected while a model learns what neither has."""
    turns = {name: torch.linalg.qr(torch.randn(8, 8))[0] for name in ("head", "tail", "new")}
    place = {name: row for row, name in enumerate(turns)}
    clip = tt.InfoNCE(0.1)

    def pairs(name, count):
        z, mark = torch.randn(count, 8), 2 * F.one_hot(torch.tensor([place[name]] * count), 3)
        return torch.cat([z, mark], 1), z @ turns[name] + 0.1 * torch.randn(count, 8)

    def of(name, count, model):
        x, y = pairs(name, count)
        return clip(model[0](x), model[1](y))

    old, checked = (network(11, 8), network(8, 8)), {name: pairs(name, 64) for name in turns}
    fit(lambda _: of("head", 48, old) + of("tail", 16, old), old, 150, 5e-3)

    @torch.no_grad()
    def validation(model):
        return {n: float(clip(model[0](x), model[1](y))) for n, (x, y) in checked.items()}

    before, after = validation(old), {}
    for beta in (0.0, 40.0):
        new = network(11, 8), network(8, 8)
        for part, begun in zip(new, old, strict=True):
            part.load_state_dict(begun.state_dict())
        guard = terms.Constraint([before["head"], before["tail"]], beta or 1.0, gamma=0.8)

        def loss_of(_, new=new, beta=beta, guard=guard):
            loss = of("new", 48, new)
            if not beta:
                return loss
            return loss + guard(torch.stack([of("head", 64, new), of("tail", 64, new)]))

        fit(loss_of, new, 100, 3e-3)
        after[beta] = validation(new)
    for name in ("head", "tail"):
        assert after[0.0][name] > before[name] + 1
        assert after[40.0][name] < before[name] + 0.15  # the noise of a batch
    assert after[40.0]["new"] < before["new"] - 3
