"""Options for memory and speed together, interrupted in the middle of an epoch and gone on."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file

import tauten as tt
from tauten.inference import export
from tauten.training import from_model, specs, train
from tauten.training.run.run_folder import RunFolder
from tauten.training.tasks.loading import load_encoder

from ..models import open_clip_folder as oc
from .conftest import interrupted

PEFT = importlib.util.find_spec("peft") is not None
needs_peft = pytest.mark.skipif(not PEFT, reason="adapters are those of peft")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The name of a tiny model of open_clip."""
    return f"open_clip:{oc.save(tmp_path_factory.mktemp('clip') / 'm')}"


def started(config, name):
    config = from_model(config, name)
    config.data.image_size = oc.SIDE
    config.optim.lr, config.evaluation.bootstrap = 1e-2, 0
    config.log_every, config.device = 1, "cpu"
    return config


def lora_freeze_bf16(config, name):
    config = started(config, name)
    config.model.lora, config.model.lora_alpha, config.model.lora_towers = 2, 4.0, "text"
    config.model.freeze, config.optim.precision = "image", "bf16"
    config.model.checkpointing = True
    return config


def lora_queue_compile(config, name):
    config = started(config, name)
    config.model.lora, config.optim.compile = 2, True
    config.loss = specs.loss(queue=48, momentum=0.9)
    config.optim.tower_lr = 1e-3
    return config


def queue_distill_accumulation_chunk(config, name):
    config = started(config, name)
    config.loss = specs.loss(queue=48, momentum=0.9, distill=0.4)
    config.optim.accumulation, config.optim.batch_size, config.optim.chunk = 2, 16, 5
    config.model.checkpointing, config.optim.precision = True, "bf16"
    return config


def freeze_compile_chunk(config, name):
    config = started(config, name)
    config.model.freeze, config.optim.compile, config.optim.chunk = "both", True, 5
    config.optim.max_grad_norm, config.optim.name = 1.0, "am-adamw"
    return config


def views_lora_bf16_queue(config, name):
    config.task, config.evaluation.metric, config.evaluation.probe = "views", "last", "none"
    config.model.image, config.data.image_size = name, oc.SIDE
    config.model.lora, config.model.checkpointing = 2, True
    config.loss = specs.loss(queue=48, momentum=0.9)
    config.optim.precision, config.evaluation.bootstrap = "bf16", 0
    config.log_every, config.device = 1, "cpu"
    return config


@pytest.fixture
def quick_compile(monkeypatch):
    """Let torch.compile find its graphs, and run them as they are."""
    usual = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: usual(module, backend="eager"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(lora_freeze_bf16, marks=needs_peft),
        pytest.param(lora_queue_compile, marks=needs_peft),
        queue_distill_accumulation_chunk,
        freeze_compile_chunk,
        pytest.param(views_lora_bf16_queue, marks=needs_peft),
    ],
)
def test_options_together_go_on_with_the_same_bits(
    options, clip, make_config, tmp_path, monkeypatch, quick_compile
):
    whole, broken = (options(make_config(tmp_path / name), clip) for name in ("whole", "broken"))
    result = train(whole)
    assert result.total_steps == 6
    interrupted(broken, monkeypatch, step=4)
    assert (broken.output / "checkpoints" / "checkpoint-3").is_dir()
    again = train(broken)
    assert again.test == result.test
    last = f"checkpoints/checkpoint-{result.total_steps}/model.safetensors"
    first, second = (load_file(config.output / last) for config in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    histories = [(config.output / "history.jsonl").read_text() for config in (whole, broken)]
    assert histories[0] == histories[1]
    assert ('"momentum"' in histories[0]) == (whole.optim.name == "am-adamw")
    assert all(
        json.loads(line)["loss"] > 0 for line in histories[0].splitlines() if '"loss"' in line
    )


@needs_peft
def test_adapters_are_merged_when_a_run_is_used(clip, make_config, tmp_path, monkeypatch):
    config = lora_freeze_bf16(make_config(tmp_path / "run"), clip)
    config.optim.precision, config.loss.mask_duplicates = "fp32", False
    train(config)
    best = config.output / "checkpoints" / "best"
    stored, start = load_file(best / "model.safetensors"), oc.weights()
    layer = "encoder.text_tower.model.encoder.layers.0.mlp.fc1"
    down, up = (stored[f"{layer}.lora_{part}.default.weight"].double() for part in "AB")
    base = start["transformer.resblocks.0.mlp.c_fc.weight"]
    assert torch.equal(stored[f"{layer}.base_layer.weight"], base)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    used = load_encoder(best)[0].state_dict()
    wanted = (base + 2.0 * up @ down).float()
    torch.testing.assert_close(used[f"{layer.removeprefix('encoder.')}.weight"], wanted)
    assert not torch.equal(wanted, base)
    assert not any("lora" in name for name in used)
    folder = export(config.output, tmp_path / "out", to="open_clip")
    state = load_file(folder / "open_clip_model.safetensors")
    torch.testing.assert_close(state["transformer.resblocks.0.mlp.c_fc.weight"], wanted)
    torch.testing.assert_close(
        tt.load(folder).encode_text(["cat"]), tt.load(config.output).encode_text(["cat"])
    )
    line = next(line for line in RunFolder(config.output).history.read() if "loss" in line)
    assert line["loss"] > 0


def test_adapters_that_mean_nothing_are_refused(clip, make_config, tmp_path):
    config = make_config(tmp_path / "run")
    config.model.lora = 2
    with pytest.raises(ValueError, match=r"model.image=convolutional begins with random weights"):
        config.validate()
    config = started(make_config(tmp_path / "run"), clip)
    config.model.lora, config.model.freeze = 2, "text"
    with pytest.raises(ValueError, match=r"choose one of both, or model\.lora_towers"):
        config.validate()
    config.model.lora_towers = "image"
    config.validate()
    if not PEFT:
        with pytest.raises(ImportError, match=r"needs peft, .*: pip install 'tauten\[peft\]'"):
            train(config)
