import pytest
import torch

from tauten.models import BagTower, ConvTower


@pytest.mark.parametrize(("size", "grid"), [(32, 4), (48, 4), (64, 2), (33 * 2, 1)])
def test_conv_tower_takes_any_even_size(size, grid):
    tower = ConvTower((8, 16, 16), grid).eval()
    assert tower(torch.rand(2, 3, size, size)).shape == (2, tower.width)
    assert tower.width == 16 * grid**2


def test_conv_tower_sees_where_things_are():
    tower = ConvTower((8, 8), 4).eval()
    image = torch.zeros(1, 3, 32, 32)
    image[..., :8, :8] = 1
    assert not torch.allclose(tower(image), tower(image.flip(-1)))


@pytest.mark.parametrize("size", [(31, 31), (16, 16), (32, 16)])
def test_conv_tower_refuses_sizes(size):
    with pytest.raises(ValueError, match=rf"even size, at least 32, got {size[0]}x{size[1]}"):
        ConvTower((8, 8, 8), 4)(torch.rand(1, 3, *size))


@pytest.mark.parametrize(("channels", "grid"), [((), 4), ((8, 0), 4), ((8,), 0)])
def test_conv_tower_refuses_settings(channels, grid):
    with pytest.raises(ValueError, match="channels must be positive"):
        ConvTower(channels, grid)


def test_bag_is_the_mean_of_embeddings_without_padding():
    tower = BagTower(10, 4)
    got = tower(torch.tensor([[3, 5, 0], [7, 0, 0]]))
    bags = torch.stack([(tower.embedding[3] + tower.embedding[5]) / 2, tower.embedding[7]])
    torch.testing.assert_close(got, bags)


def test_bag_padding_changes_nothing():
    tower = BagTower(10, 4)
    short, long = torch.tensor([[3, 5]]), torch.tensor([[3, 5, 0, 0, 0]])
    torch.testing.assert_close(tower(short), tower(long))


def test_bag_refuses_a_vocabulary_of_padding_only():
    with pytest.raises(ValueError, match="vocabulary_size >= 2"):
        BagTower(1, 4)


@pytest.mark.parametrize("count", [0, 3])
def test_pixels_are_folded_as_torch_does_also_of_no_images(count):
    torch.manual_seed(0)
    images = torch.rand(count, 3, 16, 16)
    fold = ConvTower((4,), 2).layers[0]
    expected = torch.nn.PixelUnshuffle(2)(images) if count else images.reshape(0, 12, 8, 8)
    assert torch.equal(fold(images), expected)
    assert ConvTower((4,), 2).eval()(images).shape == (count, 16)
