"""Numbers with their protocol: retrieval, classification, embedding geometry, intervals."""

from tauten.evaluation.bootstrap import Difference, Estimate, bootstrap_mean, paired_bootstrap
from tauten.evaluation.classification import accuracy, thirds
from tauten.evaluation.correlation import spearman
from tauten.evaluation.geometry import geometry
from tauten.evaluation.multi_instance import multi_instance_retrieval, multi_instance_scores
from tauten.evaluation.neighbours import knn, knn_predict
from tauten.evaluation.probes import few_shot, sgd_predict, sgd_probe, svm_predict, svm_probe
from tauten.evaluation.ranks import QueryRanks, ranks
from tauten.evaluation.retrieval import TIES, retrieval
from tauten.evaluation.zero_shot import TEMPLATES, class_embeddings, zero_shot

__all__ = [
    "TEMPLATES",
    "TIES",
    "Difference",
    "Estimate",
    "QueryRanks",
    "accuracy",
    "bootstrap_mean",
    "class_embeddings",
    "few_shot",
    "geometry",
    "knn",
    "knn_predict",
    "multi_instance_retrieval",
    "multi_instance_scores",
    "paired_bootstrap",
    "ranks",
    "retrieval",
    "sgd_predict",
    "sgd_probe",
    "spearman",
    "svm_predict",
    "svm_probe",
    "thirds",
    "zero_shot",
]
