import pytest
import torch

from tauten.models import BagTokenizer, BagTower, ConvTower, DualEncoder
from tauten.models.augmentation import AugmentationConfig


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return DualEncoder(ConvTower((8, 8), 2), BagTower(9, 8), 6, AugmentationConfig())


def test_shapes_and_bytes_equal_floats(encoder):
    encoder.eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    texts = BagTokenizer(["cat", "dog"])(["cat", "dog", "cat dog"])
    x, y = encoder(images, texts)
    assert x.shape == y.shape == (3, 6)
    torch.testing.assert_close(encoder.encode_image(images / 255), x)


def test_augmentation_only_in_training(encoder):
    images = torch.rand(4, 3, 32, 32)
    encoder.eval()
    assert torch.equal(encoder.encode_image(images), encoder.encode_image(images))
    encoder.train()
    assert not torch.equal(encoder.encode_image(images), encoder.encode_image(images))


def test_built_again_from_its_description(encoder):
    again = DualEncoder.from_description(encoder.describe())
    again.load_state_dict(encoder.state_dict())
    assert again.describe() == encoder.describe()


def test_errors(encoder):
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        DualEncoder(encoder.image_tower, encoder.text_tower, 0)
    with pytest.raises(ValueError, match="unknown tower 'quantum'"):
        DualEncoder.from_description(encoder.describe() | {"text": {"kind": "quantum"}})
