"""Memory and speed: precision, frozen towers, recomputed activations, compiled towers, device."""

import pytest
import torch
from transformers import BertConfig, ViTConfig

from tauten.models import ConvTower, DualEncoder, HFImageTower, HFTextTower
from tauten.training import Config, OptimConfig, from_dict, to_dict, train
from tauten.training.loop.compute import check_device, compiled, fitted
from tauten.training.run.run_folder import RunFolder
from tauten.training.tasks.loading import load_encoder

SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    image = HFImageTower.from_config(ViTConfig(image_size=16, patch_size=8, **SMALL))
    text = HFTextTower.from_config(BertConfig(vocab_size=20, max_position_embeddings=8, **SMALL))
    return DualEncoder(image, text, 4)


def gradients(encoder):
    encoder.zero_grad()
    ids = torch.arange(12).view(3, 4)
    texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    x, y = encoder.train()(pixels, texts)
    (x.square().sum() + (x * y).sum()).backward()
    return {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}


def test_recomputed_activations_give_the_same_gradients(encoder):
    wanted = {name: grad.clone() for name, grad in gradients(encoder).items()}
    config = Config()
    config.model.checkpointing = True
    fitted(encoder, config.model, "pairs")
    for tower in (encoder.image_tower, encoder.text_tower):
        assert any(getattr(part, "gradient_checkpointing", False) for part in tower.modules())
    again = gradients(encoder)
    assert wanted.keys() == again.keys()
    for name, grad in again.items():
        torch.testing.assert_close(grad, wanted[name])


def test_towers_that_cannot_recompute_are_refused(encoder):
    config = Config()
    config.model.checkpointing = True
    built_in = DualEncoder(ConvTower((4,), 2), ConvTower((4,), 2), 4)
    with pytest.raises(ValueError, match=r"model\.checkpointing is of Hugging Face towers, and"):
        fitted(built_in, config.model, "pairs")


def test_a_frozen_tower_has_no_gradient_and_keeps_its_statistics():
    frozen = DualEncoder(ConvTower((4,), 2), ConvTower((4,), 2), 4)
    frozen.freeze("image")
    before = {name: value.clone() for name, value in frozen.image_tower.state_dict().items()}
    frozen.train()
    assert not frozen.image_tower.training
    assert frozen.text_tower.training
    frozen.encode_image(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(p.grad is None for p in frozen.image_tower.parameters())
    assert frozen.image_projection.weight.grad is not None
    after = frozen.image_tower.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_compiled_towers_keep_names_and_values(encoder, monkeypatch):
    calls = []

    def compile_(function, **options):
        return lambda *args, **kwargs: calls.append(function.__self__) or function(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", compile_)
    names = list(encoder.state_dict())
    gradients(encoder)
    assert calls == []
    compiled(encoder)
    gradients(encoder)
    assert calls == [encoder.image_tower, encoder.text_tower]
    assert list(encoder.state_dict()) == names


@pytest.mark.parametrize("freeze", ["image", "text", "both"])
def test_frozen_random_weights_are_refused(freeze):
    config = Config()
    config.model.freeze = freeze
    with pytest.raises(ValueError, match="begins with random weights: give a pretrained tower"):
        config.validate()
    config.init = "runs/other"
    config.validate()
    config.task, config.evaluation.metric = "views", "last"
    with pytest.raises(ValueError, match="two views train the image tower alone"):
        config.validate()


def test_a_precision_of_the_environment_alone_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ValueError, match="ACCELERATE_MIXED_PRECISION=bf16 in the environment"):
        Config()
    Config(optim=OptimConfig(precision="bf16"))


def test_a_device_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = Config(device="cuda")
    with pytest.raises(ValueError, match="device=cuda: torch sees no GPU here"):
        check_device(config.device, "fp32")
    assert from_dict(to_dict(config)).device == "cuda"
    check_device("cpu", "fp32")


@pytest.fixture(scope="module")
def half(finished_run, make_config, tmp_path_factory):
    """A run in bfloat16 on the frozen image tower of another, and the same in float32."""
    runs = []
    for precision in ("bf16", "fp32"):
        output = tmp_path_factory.mktemp(precision) / "run"
        config = make_config(output, init=str(finished_run.output), optim__epochs=1)
        config.model.freeze, config.optim.precision = "image", precision
        config.evaluation.bootstrap = 0
        config.device = "cpu" if torch.cuda.is_available() else "auto"
        train(config)
        runs.append(output)
    return runs


def test_a_training_in_bfloat16_is_close_to_that_in_float32(half):
    losses = []
    for run in half:
        lines = RunFolder(run).history.read()
        losses.append(next(line["loss"] for line in lines if "loss" in line))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


def test_the_frozen_tower_of_a_run_is_that_which_it_began_with(half, finished_run):
    first = load_encoder(finished_run.output / "checkpoints" / "best")[0]
    last = load_encoder(half[0] / "checkpoints" / "best")[0]
    old, new = first.state_dict(), last.state_dict()
    same = {name for name in old if torch.equal(old[name], new[name])}
    assert {name for name in old if name.startswith("image_tower.")} <= same
    assert "text_projection.weight" not in same
    assert new["text_projection.weight"].dtype == torch.float32
