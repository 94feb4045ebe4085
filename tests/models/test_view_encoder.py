import json

import pytest
import torch
from torch import nn

from tauten.models import ConvTower, Projector, ViewConfig, ViewEncoder
from tauten.models.view_augmentation import ColorJitter, ViewAugmentation

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
OFF = {name: 0.0 for name in ("flip", "jitter", "grayscale", "blur")}


def encoder(**config):
    torch.manual_seed(1)
    return ViewEncoder(ConvTower((4, 8), 2), 5, "mlp", ViewConfig(**config))


def test_projector_is_that_of_ts():
    layers = list(Projector(8, 4).layers)
    assert [type(layer) for layer in layers] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
        nn.BatchNorm1d,
    ]
    assert layers[0].bias is not None
    assert layers[3].bias is None
    assert (layers[0].weight.shape, layers[3].weight.shape) == ((8, 8), (4, 8))
    linear = Projector(8, 4, "linear").layers
    assert [type(layer) for layer in linear] == [nn.Linear]
    with pytest.raises(ValueError, match="mlp or linear, got 8, 0 and 'mlp'"):
        Projector(8, 0)


def test_a_description_builds_the_same_encoder():
    ours = encoder(crop=0.3, blur=0.5)
    again = ViewEncoder.from_description(json.loads(json.dumps(ours.describe())))
    again.load_state_dict(ours.state_dict())
    assert again.describe() == ours.describe()
    assert torch.equal(again.eval()(IMAGES), ours.eval()(IMAGES))


def test_features_are_those_of_the_tower_for_bytes_and_floats():
    ours = encoder().eval()
    pixels = (IMAGES * 255).to(torch.uint8)
    assert torch.equal(ours.features(pixels), ours.tower(pixels / 255))
    assert torch.equal(ours(pixels), ours.projector(ours.tower(pixels / 255)))


def test_views_follow_the_global_generator_and_differ():
    ours = encoder(blur=0.5)
    torch.manual_seed(3)
    a, b = ours.views(IMAGES)
    torch.manual_seed(3)
    again = ours.views(IMAGES)
    assert torch.equal(a, again[0])
    assert torch.equal(b, again[1])
    assert a.shape == IMAGES.shape
    assert all((one != two).any() for one, two in zip(a, b, strict=True))
    assert 0 <= float(a.min()) <= float(a.max()) <= 1


def test_everything_off_changes_nothing():
    assert torch.equal(ViewAugmentation(ViewConfig(crop=1.0, **OFF))(IMAGES), IMAGES)


def test_a_crop_of_a_ramp_stays_a_ramp():
    ramp = torch.linspace(0, 1, 16).expand(64, 3, 16, 16).contiguous()
    torch.manual_seed(0)
    views = ViewAugmentation(ViewConfig(crop=0.2, **OFF))(ramp)
    steps = views.diff(dim=3)[..., 1:-1]
    assert float(steps.std(dim=(1, 2, 3)).max()) < 0.02
    shown = views[:, 0, 0, -1] - views[:, 0, 0, 0]
    assert 0.2 < float(shown.min()) < float(shown.max()) <= 1 + 1e-5


@pytest.mark.parametrize("factors", [(0.4, 0, 0), (0, 0.4, 0), (0, 0, 0.4), (0.4, 0.4, 0.4)])
def test_jitter_is_that_of_the_formula(factors):
    torch.manual_seed(5)
    ours = ColorJitter(*factors, hue=0.0)(IMAGES)
    torch.manual_seed(5)
    draws = torch.rand(len(IMAGES), 5)
    for image, draw, found in zip(IMAGES, draws, ours, strict=True):
        b, c, s = (1 + (2 * d - 1) * f for d, f in zip(draw, factors, strict=False))
        luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        wanted = image * b
        wanted = c * wanted + (1 - c) * (wanted * luma).sum(0).mean()
        grey = (wanted * luma).sum(0, keepdim=True)
        wanted = (s * wanted + (1 - s) * grey).clamp(0, 1)
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)


def test_hue_keeps_luma_and_greys():
    grey = torch.full((4, 3, 5, 5), 0.3)
    jitter = ColorJitter(0, 0, 0, hue=0.5)
    torch.testing.assert_close(jitter(grey), grey, atol=1e-6, rtol=0)
    pale = 0.45 + 0.1 * IMAGES
    luma = torch.tensor([0.299, 0.587, 0.114])
    before, after = (torch.einsum("nchw,c->nhw", x, luma) for x in (pale, jitter(pale)))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)
    assert not torch.allclose(jitter(pale), pale, atol=1e-3)


def test_jitter_changes_a_share_of_the_images():
    torch.manual_seed(0)
    images = torch.rand(500, 3, 2, 2)
    changed = (ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)(images) != images).flatten(1).any(1)
    assert 0.72 < float(changed.float().mean()) < 0.88


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hue", 0.6, "hue must be in"),
        ("crop", 0.0, "crop must be in"),
        ("blur", 1.5, "blur must be in"),
    ],
)
def test_bad_values_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        ViewConfig(**{field: value})
