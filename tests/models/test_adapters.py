"""Adapters of low rank, and their merge, against the formula written out."""

import numpy as np
import pytest
import torch

from tauten.models import DualEncoder, HFImageTower, HFTextTower
from tauten.models.adapters import adapt, merged
from tauten.models.rebuild import check_rebuilds

from .conftest import clip, siglip


@pytest.fixture
def towers():
    pytest.importorskip("peft", reason="adapters are those of peft")
    model = clip()
    return HFImageTower(model.vision_model).eval(), HFTextTower(model.text_model).eval()


def test_weights_are_merged_by_the_formula():
    drawn = np.random.default_rng(0)
    weight, down, up = (drawn.normal(size=shape) for shape in ((4, 3), (2, 3), (4, 2)))
    state = {
        "a.base_layer.weight": torch.tensor(weight),
        "a.base_layer.bias": torch.ones(4),
        "a.lora_A.default.weight": torch.tensor(down),
        "a.lora_B.default.weight": torch.tensor(up),
        "b.base_layer.weight": torch.zeros(2),  # a name of its own, without an adapter
    }
    plain = merged(state, 0.5)
    assert list(plain) == ["a.weight", "a.bias", "b.base_layer.weight"]
    np.testing.assert_allclose(plain["a.weight"].numpy(), weight + 0.5 * up @ down, rtol=1e-12)
    assert merged(plain, 3.0).keys() == plain.keys()


def test_an_adapted_tower_begins_as_it_was_and_trains_adapters_alone(towers):
    for tower, batch in zip(
        towers,
        ((torch.rand(2, 3, 32, 32),), (torch.tensor([[4, 5, 3]] * 2), torch.ones(2, 3).long())),
        strict=True,
    ):
        with torch.no_grad():
            before = tower(*batch)
        names = set(tower.state_dict())
        assert adapt(tower, 2, 6.0, seed=0) == 6
        torch.testing.assert_close(tower(*batch), before)
        tower(*batch).square().sum().backward()
        trained = {name for name, p in tower.named_parameters() if p.grad is not None}
        assert trained == {name for name in tower.state_dict() if ".lora_" in name}
        assert set(merged(tower.state_dict(), 3.0)) == names
        check_rebuilds(tower)


def test_what_is_merged_embeds_as_what_was_trained(towers):
    image, text = towers
    encoder = DualEncoder(image, text, 4).eval()
    described = encoder.describe()
    for tower in towers:
        adapt(tower, 2, 6.0, seed=0)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    plain = DualEncoder.from_description(described).eval()
    plain.load_state_dict(merged(encoder.state_dict(), 3.0))
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        plain.encode_image(pixels), encoder.encode_image(pixels), atol=1e-5, rtol=1e-5
    )
    assert not torch.allclose(plain.encode_image(pixels), 0 * encoder.encode_image(pixels))


def test_the_seed_of_adapters_is_their_own(towers):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    adapt(towers[0], 2, 6.0, seed=0)
    torch.testing.assert_close(torch.rand(3), wanted)


def test_layers_whose_weights_are_read_elsewhere_have_none():
    pytest.importorskip("peft", reason="adapters are those of peft")
    tower = HFImageTower(siglip().vision_model).eval()
    adapt(tower, 2, 6.0, seed=0)
    tower(torch.rand(2, 3, 32, 32)).square().sum().backward()
    adapters = {name: p for name, p in tower.named_parameters() if "lora_" in name}
    assert len(adapters) >= 12
    assert not any("out_proj" in name and ".head.attention." in name for name in adapters)
    assert all(p.grad is not None for p in adapters.values())
