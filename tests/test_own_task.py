"""A task of one's own, in one file, is trained, killed, resumed, evaluated and reported."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import tauten as tt
from by_path import load
from forks import CLI, Fork
from tauten.training.tasks.task import Task

PLUGIN = Path(__file__).parents[1] / "examples" / "own_task.py"
WORDS = (
    *("train", "emoji_infonce_constant", "--plugin", str(PLUGIN), "--task", "slip"),
    *("--optim.epochs", "2", "--data.limit", "96", "--optim.batch-size", "32"),
    *("--model.channels", "8", "--model.dim", "8", "--model.text-width", "8"),
    *("--evaluation.every", "1", "--evaluation.bootstrap", "20", "--no-tensorboard"),
    *("--data.alternative", "0.5", "--log-every", "1"),
)
#: the command line, which dies in the step after the first checkpoint
KILLED = """
import os
from tauten.training.loop.trainer import ContrastiveTrainer
usual = ContrastiveTrainer.training_step
def step(self, *args, **kwargs):
    if self.state.global_step == 4:
        os._exit(9)
    return usual(self, *args, **kwargs)
ContrastiveTrainer.training_step = step
"""


def tauten(*words, cwd, program=CLI, plugins=""):
    environment = {**os.environ, "TQDM_DISABLE": "1", "TAUTEN_PLUGINS": str(plugins)}
    return Fork(program, *words, cwd=cwd, env=environment).wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    done = tauten(*WORDS, "--output", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def plugin():
    """The module of the file, whose task is unknown again afterwards."""
    before = dict(Task.known)
    yield load(PLUGIN)
    Task.known.clear()
    Task.known.update(before)


def checkpoint(run):
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["config"]["task"] == "slip"
    folders = sorted((run / "checkpoints").glob("checkpoint-*"))
    return load_file(folders[-1] / "model.safetensors"), folders[-1].name


def test_killed_and_started_again_it_ends_with_the_same_weights(trained):
    killed = tauten(*WORDS, "--output", "again", cwd=trained, program=KILLED + CLI)
    assert killed.returncode == 9, killed.stderr
    assert checkpoint(trained / "again")[1] == "checkpoint-3"
    done = tauten(*WORDS, "--output", "again", cwd=trained)
    assert done.returncode == 0, done.stderr
    (whole, last), (resumed, end) = (checkpoint(trained / name) for name in ("run", "again"))
    assert (last, end) == ("checkpoint-6", "checkpoint-6")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    lines = [(trained / name / "history.jsonl").read_text() for name in ("run", "again")]
    assert lines[0] == lines[1]


def test_its_best_checkpoint_is_evaluated_as_at_the_end_of_the_training(trained):
    words = ("evaluate", "run", "--output", "again.json", "--bootstrap", "20")
    done = tauten(*words, cwd=trained, plugins=PLUGIN)
    assert done.returncode == 0, done.stderr
    found = json.loads((trained / "again.json").read_text())
    kept = json.loads((trained / "run" / "results.json").read_text())["test"]
    assert found == pytest.approx(kept, nan_ok=True)
    refused = tauten("evaluate", "run", cwd=trained)
    assert refused.returncode == 1
    assert "task 'slip' is unknown" in refused.stderr


def test_the_report_needs_no_plugin(trained):
    done = tauten("report", "run", "--output", "page", cwd=trained)
    assert done.returncode == 0, done.stderr
    page = (trained / "page" / "report.html").read_text(encoding="utf-8")
    assert "slip" in page


def test_options_of_pairs_are_its_own_and_those_of_views_are_not(trained):
    done = tauten(*WORDS[:6], "--model.projector", "linear", "--output", "no", cwd=trained)
    assert done.returncode == 1
    assert "--model.projector has no meaning here: it needs --task views" in done.stderr
    shown = tauten(*WORDS[:6], "--help", cwd=trained).stdout
    assert "--data.alternative" in shown
    assert "--model.projector" not in shown


class Drawn(nn.Module):
    """An encoder of embeddings, whose images are doubled by each look at them."""

    dim = 4

    def __init__(self):
        super().__init__()
        self.looks = []

    def forward(self, images, texts):
        return images, texts["ids"]

    def encode_image(self, images):
        self.looks.append(images + torch.tensor(len(self.looks) + 1.0, dtype=images.dtype).sin())
        return self.looks[-1]


def test_its_loss_is_the_sum_of_both(plugin):
    x, y = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    encoder, index = Drawn(), torch.arange(6)
    module = plugin.SLIPModule(encoder, tt.InfoNCE(0.2))
    value = module(x, {"ids": y}, index, (index, index))["loss"]
    expected = sum(cross_entropy(*pair) for pair in ((x, y, 0.2), (*encoder.looks, 0.1)))
    assert float(value) == pytest.approx(expected)
    evaluated = module.eval()(x, {"ids": y}, index, (index, index))["loss"]
    assert float(evaluated) == pytest.approx(cross_entropy(x, y, 0.2))


def cross_entropy(x, y, tau):
    """Return the mean of both directions' softmax cross-entropies, in numpy."""
    rows = [side.numpy() / np.linalg.norm(side.numpy(), axis=1, keepdims=True) for side in (x, y)]
    s = rows[0] @ rows[1].T / tau
    of_pairs = np.diag(s)
    return float(np.mean([np.log(np.exp(s).sum(axis)) - of_pairs for axis in (0, 1)]))
