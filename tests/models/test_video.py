import pytest
import torch

from tauten.models import Augmentation, BagTower, ConvTower, DualEncoder, RandomColor, VideoTower
from tauten.models.augmentation import AugmentationConfig


@pytest.fixture
def clips():
    torch.manual_seed(0)
    return torch.rand(3, 4, 3, 16, 16)


def encoder(pooling="mean", augmentation=None):
    torch.manual_seed(1)
    tower = VideoTower(ConvTower((8, 8), 2), pooling)
    return DualEncoder(tower, BagTower(9, 8), 6, augmentation)


def test_mean_over_frames_one_by_one(clips):
    tower = VideoTower(ConvTower((8, 8), 2)).eval()
    wanted = torch.stack(
        [torch.stack([tower.image_tower(f[None])[0] for f in clip]).mean(0) for clip in clips]
    )
    torch.testing.assert_close(tower(clips), wanted)


def test_attention_starts_as_the_mean_and_weighs_frames(clips):
    tower = VideoTower(ConvTower((8, 8), 2), "attention").eval()
    mean = VideoTower(tower.image_tower).eval()
    torch.testing.assert_close(tower(clips), mean(clips))
    tower.score.data.normal_(generator=torch.Generator().manual_seed(0))
    frames = tower.image_tower(clips[0])
    weight = torch.exp(frames @ tower.score)
    wanted = sum(w * h for w, h in zip(weight / weight.sum(), frames, strict=True))
    torch.testing.assert_close(tower(clips)[0], wanted)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_built_again_from_its_description(clips, pooling):
    first = encoder(pooling, AugmentationConfig()).eval()
    again = DualEncoder.from_description(first.describe()).eval()
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.encode_image(clips), first.encode_image(clips))


def test_bytes_equal_floats(clips):
    model = encoder().eval()
    pixels = (clips * 255).round().to(torch.uint8)
    torch.testing.assert_close(model.encode_image(pixels), model.encode_image(pixels / 255))


@pytest.mark.parametrize(
    "config",
    [AugmentationConfig(), AugmentationConfig(rotation=0, translation=0, scale=0, grayscale=0.5)],
)
def test_all_frames_of_a_clip_are_changed_alike(config):
    torch.manual_seed(0)
    still = torch.rand(5, 1, 3, 12, 12)
    changed = Augmentation(config)(still.expand(-1, 4, -1, -1, -1))
    assert changed.shape == (5, 4, 3, 12, 12)
    for t in range(1, 4):
        torch.testing.assert_close(changed[:, t], changed[:, 0])
    assert not torch.allclose(changed[0, 0] - still[0, 0], changed[1, 0] - still[1, 0])


def test_a_clip_of_one_frame_is_changed_as_an_image(clips):
    augmentation = Augmentation(AugmentationConfig(noise=0.1))
    torch.manual_seed(3)
    wanted = augmentation(clips[:, 0])
    torch.manual_seed(3)
    torch.testing.assert_close(augmentation(clips[:, :1])[:, 0], wanted)


def test_frames_keep_their_order_and_colours(clips):
    color = Augmentation(AugmentationConfig(rotation=0, translation=0, scale=0))
    assert isinstance(color.steps[0], RandomColor)
    torch.manual_seed(2)
    changed = color(clips)
    torch.manual_seed(2)
    wanted = color(clips[:, 2])
    torch.testing.assert_close(changed[:, 2], wanted, atol=1e-5, rtol=1e-5)


def test_noise_differs_between_frames():
    plain = dict.fromkeys(
        ("rotation", "translation", "scale", "hue", "saturation", "contrast", "brightness"), 0.0
    )
    changed = Augmentation(AugmentationConfig(**plain, noise=0.1))(torch.zeros(2, 3, 3, 4, 4))
    assert not torch.equal(changed[:, 0], changed[:, 1])


def test_errors(clips):
    model = encoder()
    with pytest.raises(ValueError, match=r"VideoTower takes \(N, T, 3, H, W\), got \(4, 3, 16"):
        model.encode_image(clips[0])
    images = DualEncoder(ConvTower((8, 8), 2), BagTower(9, 8), 6)
    with pytest.raises(ValueError, match=r"ConvTower takes \(N, 3, H, W\), got \(3, 4, 3, 16"):
        images.encode_image(clips)
    with pytest.raises(ValueError, match="takes clips itself"):
        VideoTower(model.image_tower)
    with pytest.raises(ValueError, match="got 'max'"):
        VideoTower(ConvTower((8, 8), 2), "max")
