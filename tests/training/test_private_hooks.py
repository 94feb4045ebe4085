"""The trainer leans on ten private methods of transformers' Trainer: all are named here.

Where a new release of transformers changes one of them, this fails before a training goes wrong.
"""

import ast
import inspect

import pytest

pytest.importorskip("transformers")

from transformers import Trainer

from tauten.training.loop.saving import SavingTrainer
from tauten.training.loop.trainer import ContrastiveTrainer

#: each with the arguments that it has in the releases that were tried
USED = {
    "_clip_grad_norm": ["self", "model"],
    "_get_grad_norm": ["self", "model", "grad_norm"],
    "_get_output_dir": ["self", "trial"],
    "_get_train_sampler": ["self", "train_dataset"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_load_rng_state": ["self", "checkpoint"],
    "_save": ["self", "output_dir", "state_dict"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_optimizer_and_scheduler": ["self", "output_dir"],
}


def private(names):
    return {
        n for n in names if n.startswith("_") and not n.startswith("__") and hasattr(Trainer, n)
    }


def test_private_methods_that_are_used_are_these():
    trainers = (ContrastiveTrainer, SavingTrainer)
    trees = [ast.parse(inspect.getsource(inspect.getmodule(trainer))) for trainer in trainers]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    called = private(node.attr for node in nodes if isinstance(node, ast.Attribute))
    assert called.union(*(private(vars(trainer)) for trainer in trainers)) == set(USED)


@pytest.mark.parametrize("name", USED)
def test_a_private_method_takes_what_it_took(name):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == USED[name]
