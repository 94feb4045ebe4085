import dataclasses
from pathlib import Path

import pytest
import tyro

from tauten.training import Config, ModelConfig, OptimConfig, from_dict, to_dict
from tauten.training.config_tree import differences


def test_there_and_back():
    config = Config(name="x", output=Path("somewhere"))
    config.model.channels = (4, 5)
    config.model.augmentation.hue = 0.3
    assert from_dict(to_dict(config)) == config


def test_command_line():
    options = {
        "--optim.lr": "0.5",
        "--control.kind": "mmts",
        "--seed": "7",
        "--model.augmentation.hue": "0.2",
        "--data.val": "x.parquet",
    }
    args = [word for option in options.items() for word in option]
    config = tyro.cli(Config, args=[*args, "--model.channels", "4", "8"])
    assert (config.optim.lr, config.control.kind, config.seed) == (0.5, "mmts", 7)
    assert (config.model.channels, config.model.augmentation.hue) == ((4, 8), 0.2)
    assert config.data.val == "x.parquet"


def test_help_explains_the_fields(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(Config, args=["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for phrase in ("passes over the training split", "mmts: peak-to-peak amplitude"):
        assert phrase in shown


def test_unknown_field():
    with pytest.raises(ValueError, match="not a configuration of this version"):
        from_dict(to_dict(Config()) | {"speed": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": OptimConfig(epochs=0)}, "optim.epochs must be more than 0"),
        ({"optim": OptimConfig(batch_size=1)}, "optim.batch_size must be 2 or more, got 1"),
        ({"optim": OptimConfig(warmup=1.5)}, r"optim.warmup must be in \[0, 1\], got 1.5"),
        ({"log_every": 0}, "log_every must be more than 0"),
    ],
)
def test_invalid_values(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


@pytest.mark.parametrize(("field", "value"), [("held_out", 0.5), ("head", 3), ("keywords", -0.1)])
def test_invalid_data(field, value):
    config = Config()
    setattr(config.data, field, value)
    with pytest.raises(ValueError, match=rf"data.*{field}"):
        config.validate()


def test_differences_are_named():
    ours = to_dict(Config())
    theirs = to_dict(dataclasses.replace(Config(), seed=5, model=ModelConfig(dim=3)))
    assert differences(ours, theirs) == ["model.dim: 256, was 3", "seed: 0, was 5"]
    assert differences(ours, ours) == []
