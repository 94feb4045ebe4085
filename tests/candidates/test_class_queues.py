"""Queues of classes and pixels at their boundaries, as in segmentation with pixel contrast."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import ClassQueues, MomentumEncoder, boundary_pixels


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_class_keeps_its_last_keys():
    queues, keys = ClassQueues(3, 2, 2), drawn(8, 2)
    labels = torch.tensor([0, 1, 0, 0, 0, 1, 0, 0])
    queues.push(keys[:4], labels[:4])
    queues.push(keys[4:], labels[4:])
    stored, of_key = queues.candidates()
    assert len(queues) == 5
    assert sorted(map(tuple, stored[of_key == 0].tolist())) == sorted(
        map(tuple, keys[[4, 6, 7]].tolist())
    )
    assert sorted(map(tuple, stored[of_key == 1].tolist())) == sorted(
        map(tuple, keys[[1, 5]].tolist())
    )
    again = ClassQueues(3, 2, 2)
    again.load_state_dict(queues.state_dict())
    assert torch.equal(again.candidates()[0], stored)


@pytest.mark.parametrize("width", [1, 2])
def test_boundary_pixels_have_another_class_nearby(width):
    labels = torch.randint(0, 3, (2, 6, 7), generator=torch.Generator().manual_seed(0))
    labels[:, :4, :5] = 1
    found = boundary_pixels(labels, width)
    for b in range(2):
        for i in range(6):
            for j in range(7):
                near = labels[
                    b, max(i - width, 0) : i + width + 1, max(j - width, 0) : j + width + 1
                ]
                assert bool(found[b, i, j]) == (len(near.unique()) > 1)


def test_segmentation_with_pixel_contrast_equals_the_formula():
    """HPCL-Net: cross-entropy and, at boundaries, contrast with queues of momentum keys."""
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[:, :2] = 1
    labels[1, :, 3] = 2
    image = drawn(2, 4, 4, 3)
    torch.manual_seed(0)
    encoder, head = torch.nn.Linear(3, 5), torch.nn.Linear(5, 3)
    slow, queues = MomentumEncoder(encoder), ClassQueues(6, 5, 3)
    queues.push(slow(image).flatten(0, 2), labels.flatten())
    keys, of_key = queues.candidates()
    assert torch.bincount(of_key).tolist() == [6, 6, 4]
    features, edge = encoder(image), boundary_pixels(labels)
    pixels, classes = features[edge], labels[edge]
    contrast = tt.DecoupledSoftmax(0.1, directions="x2y")
    found = F.cross_entropy(head(features).flatten(0, 2), labels.flatten())
    found = found + 0.1 * contrast(pixels, keys, labels=(classes, of_key))

    s = F.normalize(pixels, dim=1) @ F.normalize(keys, dim=1).T / 0.1
    own = classes[:, None] == of_key
    below = s.exp().masked_fill(own, 0.0).sum(1, keepdim=True)
    each = ((s.exp() / (s.exp() + below)).log() * own).sum(1) / own.sum(1)
    expected = F.cross_entropy(head(features).flatten(0, 2), labels.flatten()) - 0.1 * each.mean()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    parameters = [*encoder.parameters(), *head.parameters()]
    ours, theirs = (
        torch.autograd.grad(value, parameters, retain_graph=True) for value in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClassQueues(3, 2, 0), "classes must be at least 1, got 0"),
        (lambda: ClassQueues(3, 2, 2).push(drawn(2, 2), torch.tensor([0, 2])), r"in 0 .. 1"),
        (lambda: boundary_pixels(torch.zeros(4, 4).long()), r"\(B, H, W\), got \(4, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
