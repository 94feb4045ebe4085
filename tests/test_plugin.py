"""A control and a loss of one's own, in one file, are trained, compared, reported and resumed."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from forks import CLI, Fork
from tauten.extend import ContrastiveLoss, logits_lse, reciprocal

PLUGIN = Path(__file__).parents[1] / "examples" / "own_rules.py"
SMALL = (
    *("--optim.epochs", "2", "--data.limit", "96", "--optim.batch-size", "32"),
    *("--model.channels", "8", "--model.dim", "8", "--model.text-width", "8"),
    *("--evaluation.every", "1", "--evaluation.bootstrap", "20", "--no-tensorboard"),
)
CHOSEN = ("--plugin", str(PLUGIN), "--family", "cubed", "--control.kind", "warmup")


def tauten(*words, cwd):
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    environment.pop("TAUTEN_PLUGINS", None)
    return Fork(CLI, *words, cwd=cwd, env=environment).wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    words = ("train", "emoji_infonce_constant", *CHOSEN, "--control.steps", "4", *SMALL)
    done = tauten(*words, "--output", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, words


def test_it_trains_with_its_temperature_over_the_steps(trained):
    folder, _ = trained
    lines = [json.loads(line) for line in (folder / "run" / "history.jsonl").open()]
    found = {line["step"]: line["tau/mean"] for line in lines if "tau/mean" in line}
    expected = {s: 0.07 * (0.5 + 0.5 * min(1.0, (s - 1) / 4)) for s in found}
    assert found == pytest.approx(expected, rel=1e-5)
    assert len(found) >= 2


def test_started_again_it_finds_the_finished_run_and_needs_its_plugin(trained):
    folder, words = trained
    before = (folder / "run" / "results.json").read_text()
    assert tauten(*words, "--output", "run", cwd=folder).returncode == 0
    assert (folder / "run" / "results.json").read_text() == before


def test_the_report_needs_no_plugin(trained):
    folder, _ = trained
    done = tauten("report", "run", "--output", "page", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (folder / "page" / "report.html").read_text(encoding="utf-8")
    assert "cubed" in page
    assert "warmup" in page


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "run", "--bootstrap", "0"),
        ("embed", "run", "--split", "val", "--output", "vectors"),
        ("export", "run", "--to", "torch-export", "--output", "graphs"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_reads_its_run_takes_the_plugin_that_it_asks_for(trained, words):
    folder, _ = trained
    done = tauten(*words, cwd=folder)
    assert done.returncode == 1
    assert "--plugin FILE" in done.stderr
    done = tauten(*words, "--plugin", str(PLUGIN), cwd=folder)
    assert done.returncode == 0, done.stderr


def test_help_shows_its_options_and_no_others(trained):
    folder, _ = trained
    shown = tauten("train", "emoji_infonce_mmts", *CHOSEN, "--help", cwd=folder).stdout
    assert "--control.steps" in shown
    assert "optimiser steps of the rise" in " ".join(shown.replace("│", " ").split())
    assert "--control.alpha" not in shown
    assert "--loss.force" not in shown


def test_it_is_compared(trained):
    folder, _ = trained
    words = ("compare", "--recipe", "synthetic", "--controls", "constant,warmup,cubed")
    small = ("--seeds", "2", "--trials", "1", "--processes", "2", "--bootstrap", "50")
    settings = ("--set", "optim.epochs=1", "--set", "synthetic.concepts=40")
    words = (*words, *small, *settings, "--plugin", str(PLUGIN), "--output", "grid")
    done = tauten(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "warmup" in done.stdout
    assert "cubed" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("raise RuntimeError('broken rule')", "RuntimeError: broken rule"),
        (
            "from dataclasses import dataclass\nfrom tauten.extend import ControlSpec\n"
            "@dataclass\nclass Mine(ControlSpec):\n    kind = 'mmts'\n",
            "has the name 'mmts', which tauten.controls.mmts.MMTSSpec has already",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(tmp_path, text, said):
    if text is not None:
        (tmp_path / "rules.py").write_text(text)
    words = ("train", "emoji_infonce_mmts", "--plugin", "rules.py", "--output", "run")
    done = tauten(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


class Plain(ContrastiveLoss):
    """InfoNCE written out, with nothing declared."""

    def anchor_losses(self, batch, directions):
        scales = [reciprocal(batch.strength(self.strength, d)) for d in directions]
        partitions = logits_lse(batch, scales, directions, own=False)
        return [
            lse - batch.positives(d) * batch.at_positives(scale, d)
            for lse, scale, d in zip(partitions, scales, directions, strict=True)
        ]


class Inherited(tt.InfoNCE):
    """A loss that overrides the value and declares nothing of its own."""

    def anchor_losses(self, batch, directions):
        return super().anchor_losses(batch, directions)


def test_a_loss_of_ones_own_has_the_value_of_its_formula():
    x, y = (torch.randn(5, 3, generator=torch.Generator().manual_seed(k)) for k in range(2))
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / 0.2
    at = torch.arange(5)
    expected = (F.cross_entropy(s, at) + F.cross_entropy(s.T, at)) / 2
    torch.testing.assert_close(Plain(0.2)(x, y), expected)


@pytest.mark.parametrize("loss", [Plain, Inherited])
def test_what_a_loss_does_not_declare_is_refused(loss):
    with pytest.raises(ValueError, match=r"force must be one of \['plain'\], got 'equalized'"):
        loss(0.1, force="equalized")
    with pytest.raises(ValueError, match="it does not implement the robust objective"):
        loss(tt.Individual(8))
    with pytest.raises(ValueError, match="it does not implement the robust objective"):
        loss(tt.TempNet(4))
