"""The examples run, at small settings, and do what they show."""

from __future__ import annotations

from pathlib import Path

import torch

from by_path import load

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name):
    return load(EXAMPLES / f"{name}.py")


def test_plain_torch_learns():
    main = example("plain_torch").main
    short, long = main(epochs=1, samples=512), main(epochs=4, samples=512)
    assert (short["steps"], long["steps"]) == (4, 16)
    assert long["loss"] < short["loss"]
    assert 0 <= long["x2y/hit@10/tail"] <= 1


def test_streaming_goes_on_in_the_middle_of_an_epoch(tmp_path):
    main = example("streaming").main
    small = {"samples": 150, "batch_size": 32, "save_every": 3}
    whole = main(tmp_path / "whole", **small)
    assert whole["steps"] == 10
    first = main(tmp_path / "killed", stop_after=4, **small)
    rest = main(tmp_path / "killed", **small)
    assert first["seen"][: 3 * 32] + rest["seen"] == whole["seen"]
    assert sorted(whole["seen"]) == sorted([*range(150)] * 2)
    for name, weights in whole["weights"].items():
        assert torch.equal(weights, rest["weights"][name]), name
