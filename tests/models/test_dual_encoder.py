import copy

import pytest
import torch

from tauten.models import BagTokenizer, BagTower, ConvTower, DualEncoder, TextEncoder
from tauten.models.augmentation import AugmentationConfig
from tauten.models.text_encoder import stacked


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


def test_texts_of_both_sides_go_through_one_tower():
    torch.manual_seed(0)
    encoder = TextEncoder(BagTower(9, 8), 6)
    texts = BagTokenizer(["cat", "dog"])(["cat", "dog", "cat dog"])
    x, y = encoder(stacked(texts), texts)
    torch.testing.assert_close(x, y)
    assert [name for name, _ in encoder.named_parameters()] == [
        "text_tower.embedding",
        "text_projection.weight",
    ]
    again = DualEncoder.from_description(encoder.describe())
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.encode_text(texts), y)
    slow = copy.deepcopy(encoder)
    assert slow.image_tower is slow.text_tower is not encoder.text_tower
    encoder.freeze("text")
    assert not encoder.train().image_tower.training
    with pytest.raises(ValueError, match="both sides of this model are texts"):
        encoder.encode_image(torch.zeros(2, 3, 8, 8))
