"""Contrastive losses as parts of larger objectives, and candidates by where they come from."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tauten as tt
from compared import check

N, D, WORDS = 5, 6, 9


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def unit(rows):
    return F.normalize(rows, dim=-1)


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_coconut_takes_positives_of_the_old_model_and_negatives_of_the_new_one(tile):
    """COCONUT: candidates have a tag, student or teacher, by which the relation selects them."""
    new, old = drawn(N, D), drawn(N, D, seed=1).detach()
    speech, texts = drawn(N + 3, D, seed=2), drawn(N + 3, D, seed=3)  # of which N are rehearsed
    classes = torch.tensor([0, 1, 0, 2, 1])
    teacher = torch.tensor([True] * N + [False] * N)
    nobody = 100 + torch.arange(2 * N)
    labels = torch.where(teacher, classes.repeat(2), nobody)
    # of the teacher's candidates positives alone, of the student's all but the anchor itself
    left_out = torch.where(
        teacher, classes[:, None] != classes.repeat(2), torch.eye(N).repeat(1, 2).bool()
    )
    loss_fn = tt.DCL(0.1, directions="x2y", tile=tile)
    found = loss_fn(new, torch.cat([old, new]), labels=(classes, labels), ignore=left_out)
    found = found + tt.InfoNCE(0.07, tile=tile)(speech, texts)

    to_old, to_new = unit(new) @ unit(old).T / 0.1, unit(new) @ unit(new).T / 0.1
    expected = 0
    for i in range(N):
        below = to_new[i][torch.arange(N) != i].logsumexp(0)
        expected = expected + (below - to_old[i][classes == classes[i]]).mean() / N
    logits = unit(speech) @ unit(texts).T / 0.07
    own = torch.arange(N + 3)
    expected = expected + (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    check(found, expected, [new, speech, texts])


class Captioner(nn.Module):
    """A text model whose lower half reads texts alone and whose upper half sees the image, too."""

    def __init__(self):
        super().__init__()
        self.image, self.words = nn.Linear(D, D), nn.Embedding(WORDS, D)
        self.lower, self.upper = nn.GRU(D, D, batch_first=True), nn.GRU(2 * D, D, batch_first=True)
        self.head = nn.Linear(D, WORDS)

    def forward(self, images, ids):
        x, (read, last) = self.image(images), self.lower(self.words(ids))
        seen = torch.cat([read, x[:, None].expand(-1, ids.shape[1], -1)], 2)
        logits = self.head(self.upper(seen)[0])
        caption = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return x, last[0], caption


@pytest.fixture
def captioned():
    torch.manual_seed(0)
    model = Captioner().double()
    images, ids = torch.randn(N, D, dtype=torch.float64), torch.randint(WORDS, (N, 4))
    return model, images, ids


def gradients(value, model):
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return dict(zip((name for name, _ in model.named_parameters()), found, strict=True))


def test_cocas_controls_move_the_contrastive_part_alone(captioned):
    """CoCa: 1·contrastive + 2·captioning of one forward pass."""
    model, images, ids = captioned
    of_caption, parts = gradients(model(images, ids)[2], model), []
    for tau in (0.07, tt.mmts(torch.tensor([90, 4, 4, 90, 4]), 0.2, (0.17, 0.3), 10)):
        x, y, caption = model(images, ids)
        loss_fn = tt.InfoNCE(tau)
        clip = loss_fn(x, y, torch.arange(N))
        parts.append((gradients(clip, model), clip.detach(), caption.detach()))
        x, y, caption = model(images, ids)
        whole = gradients(loss_fn(x, y, torch.arange(N)) + 2 * caption, model)
        for name, value in whole.items():
            of_clip, of_words = parts[-1][0][name], of_caption[name]
            terms = [of_clip, None if of_words is None else 2 * of_words]
            torch.testing.assert_close(value, sum(term for term in terms if term is not None))
    (first, clip, caption), (second, other_clip, other_caption) = parts
    assert caption == other_caption
    assert abs(float(clip - other_clip)) > 0.1
    assert not torch.allclose(first["image.weight"], second["image.weight"])
    assert first["head.weight"] is None
    assert second["upper.weight_ih_l0"] is None


def test_cosmo_attaches_the_loss_to_the_half_that_reads_texts(captioned):
    """COSMO: L_LM + λ·L_clip of the image and the last state of the unimodal half."""
    model, images, ids = captioned
    x, last, language = model(images, ids)
    clip = tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0))(x, last)
    found = gradients(language + 0.5 * clip, model)
    alone = gradients(model(images, ids)[2], model)
    changed = {name for name in found if not torch.allclose(found[name], alone[name])}
    assert changed == {name for name in found if name.startswith(("image", "words", "lower"))}


def test_vid2robot_has_three_terms_with_a_temperature_each():
    """Vid2Robot: the loss of actions and contrastive terms of one model, each with its control."""
    torch.manual_seed(0)
    video, robot, text = (nn.Linear(D, D).double() for _ in range(3))
    inputs = [torch.randn(N, D, dtype=torch.float64) for _ in range(3)]
    pairs = {"frames": (0, 1), "prompt": (0, 1), "words": (1, 2)}
    losses = nn.ModuleDict(
        {
            name: tt.InfoNCE(tt.Learnable(tau, 0.01, 1.0)).double()
            for name, tau in (("frames", 0.1), ("prompt", 0.2), ("words", 0.05))
        }
    )
    weights = {"frames": 1.0, "prompt": 0.5, "words": 2.0}

    def whole(part=None):
        z = [encoder(rows) for encoder, rows in zip((video, robot, text), inputs, strict=True)]
        action = (z[1] - inputs[1]).square().mean()
        terms = {
            name: losses[name](z[a] if name != "frames" else z[a].roll(1, 0), z[b])
            for name, (a, b) in pairs.items()
        }
        if part is not None:
            return terms[part]
        return action + sum(weights[name] * term for name, term in terms.items())

    taus = {name: loss.strength.parameter for name, loss in losses.items()}
    together = torch.autograd.grad(whole(), list(taus.values()))
    for (name, tau), gradient in zip(taus.items(), together, strict=True):
        (alone,) = torch.autograd.grad(whole(name), [tau])
        torch.testing.assert_close(gradient, weights[name] * alone)
    assert len({round(float(g), 9) for g in together}) == 3
