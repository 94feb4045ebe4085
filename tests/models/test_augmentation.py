import dataclasses

import pytest
import torch

from tauten.models import Augmentation, RandomColor
from tauten.models.augmentation import AugmentationConfig

OFF = AugmentationConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.fixture
def images():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_everything_off_changes_nothing(images):
    assert torch.equal(Augmentation(OFF)(images), images)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(AugmentationConfig)])
def test_each_change_changes_each_image_differently(images, field):
    augmentation = Augmentation(dataclasses.replace(OFF, **{field: 0.5}))
    same = images[:1].expand(6, -1, -1, -1)
    torch.manual_seed(1)
    changed = augmentation(same)
    assert changed.shape == same.shape
    if field == "grayscale":
        flat = changed.amax(1) - changed.amin(1)
        assert {bool(image.max() < 1e-3) for image in flat} == {True, False}
    else:
        assert not torch.allclose(changed[0], same[0], atol=1e-4)
        assert not torch.allclose(changed[0], changed[1], atol=1e-4)


def test_torchs_generator_determines_all(images):
    augmentation = Augmentation(AugmentationConfig(noise=0.1, grayscale=0.2))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = augmentation(images)
    assert not torch.equal(augmentation(images), first)
    torch.set_rng_state(state)
    assert torch.equal(augmentation(images), first)


def test_hue_and_saturation_keep_luma(images):
    color = RandomColor(hue=0.5, saturation=0.9, contrast=0, brightness=0)
    luma = torch.tensor([0.299, 0.587, 0.114])
    changed = color(images)
    assert not torch.allclose(changed, images, atol=1e-2)
    torch.testing.assert_close(
        torch.einsum("c,nchw->nhw", luma, changed),
        torch.einsum("c,nchw->nhw", luma, images),
        atol=1e-4,
        rtol=0,
    )


def test_contrast_keeps_white():
    white = torch.ones(4, 3, 8, 8)
    changed = RandomColor(hue=0.5, saturation=0.5, contrast=0.5, brightness=0)(white)
    torch.testing.assert_close(changed, white, atol=1e-4, rtol=0)


def test_no_gradient_is_kept(images):
    assert not Augmentation(AugmentationConfig())(images.requires_grad_()).requires_grad


@pytest.mark.parametrize(("field", "value"), [("hue", 0.6), ("grayscale", 1.1), ("noise", -1)])
def test_ranges(field, value):
    with pytest.raises(ValueError, match=f"augmentation {field} must be in .*, got {value}"):
        AugmentationConfig(**{field: value})
