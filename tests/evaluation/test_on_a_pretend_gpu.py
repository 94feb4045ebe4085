"""Evaluators take embeddings of a CUDA device, with labels and ids on either side."""

import math

import pytest
import torch

import tauten as tt
import tauten.evaluation as ev
from pretend_gpu import PretendGPU

N, DIM = 24, 5
GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(N, DIM, generator=GENERATOR)
Y = X + torch.randn(N, DIM, generator=GENERATOR)
LABELS, ROWS = torch.arange(N) % 4, torch.arange(N)
GROUPS = ["head"] * 12 + ["tail"] * 12
NEAR = torch.rand(N, N, generator=GENERATOR)
PAIRS = torch.eye(N)
EVALUATORS = {
    "retrieval": lambda m, k: ev.retrieval(m(X), m(Y), k(ROWS), groups=GROUPS, bootstrap=9),
    "ranks": lambda m, k: ev.ranks(m(X), m(Y), k(ROWS))["x2y"].values,
    "class retrieval": lambda m, k: ev.class_retrieval(m(X), k(LABELS), m(Y), bootstrap=9),
    "pair auc": lambda m, k: ev.pair_auc(m(X), m(Y), k(ROWS)),
    "knn": lambda m, k: ev.knn(m(X), k(LABELS), m(Y), k(LABELS), groups=GROUPS, bootstrap=9),
    "zero-shot": lambda m, k: ev.zero_shot(m(X), k(LABELS), m(Y[:4]), ks=(1, 2), bootstrap=9),
    "geometry": lambda m, k: ev.geometry(m(X), m(Y), k(LABELS)),
    "separability": lambda m, k: ev.geometry(m(X), m(Y), k(LABELS), separability=True),
    "effective rank": lambda m, k: ev.effective_rank(m(X)),
    "multi-instance": lambda m, k: ev.multi_instance_retrieval(m(NEAR), m(PAIRS), bootstrap=9),
    "penalty": lambda m, k: ev.penalty(m(X), m(Y), k(torch.full((N,), 0.1)), bootstrap=9),
    "compositional": lambda m, k: ev.compositional(m(X), m(Y), m(Y.roll(1, 0)[:, None])),
    "sgd probe": lambda m, k: ev.sgd_probe(m(X), k(LABELS), m(Y), k(LABELS), epochs=2),
    "svm probe": lambda m, k: ev.svm_probe(m(X), k(LABELS), m(Y), k(LABELS)),
    "mahalanobis": lambda m, k: ev.mahalanobis(m(X), k(LABELS), k(Y)),
    "unknown": lambda m, k: ev.unknown_auroc(m(X[:, 0]), k(Y[:, 0])),
    "transport": lambda m, k: ev.transported(m(X), m(Y)),
    "spearman": lambda m, k: ev.spearman(m(X[:, 0]), k(Y[:, 0]), bootstrap=9).value,
    "accuracy": lambda m, k: ev.accuracy(m(LABELS == 1), k(LABELS), bootstrap=9),
    "bootstrap": lambda m, k: ev.bootstrap_mean(m(X[:, 0]), clusters=k(LABELS), bootstrap=9).low,
    "few shot": lambda m, k: ev.few_shot(k(LABELS), 2),
    "temperatures": lambda m, k: ev.TauProbe.of_labels(
        tt.InfoNCE(tt.mmts(LABELS + 1, 0.04, (0.05, 0.2), 10)).to(m(X).device), k(LABELS)
    ).summary(),
}


def numbers(result):
    """Return what an evaluator found as numbers in main memory."""
    if isinstance(result, dict):
        return [number for key in sorted(result, key=str) for number in numbers(result[key])]
    if isinstance(result, tuple):
        return [number for part in result for number in numbers(part)]
    if isinstance(result, torch.Tensor):
        return result.double().flatten().tolist()
    return [float(result)] if isinstance(result, (bool, int, float)) else []


@pytest.mark.parametrize("beside", ["cpu", "cuda"])
@pytest.mark.parametrize("name", EVALUATORS)
def test_an_evaluator_finds_what_it_finds_in_main_memory(name, beside):
    expected = numbers(EVALUATORS[name](lambda t: t, lambda t: t))
    with PretendGPU():
        found = numbers(EVALUATORS[name](lambda t: t.cuda(), lambda t: t.to(beside)))
    assert expected
    assert len(found) == len(expected)
    assert all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) or (a != a and b != b)
        for a, b in zip(found, expected, strict=True)
    )
