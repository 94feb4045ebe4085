"""Numbers with their protocol: retrieval, classification, embedding geometry, intervals."""

from tauten.evaluation.auc import pair_auc
from tauten.evaluation.bootstrap import Difference, Estimate, bootstrap_mean, paired_bootstrap
from tauten.evaluation.class_level import class_retrieval
from tauten.evaluation.class_scores import ClassScores, class_scores
from tauten.evaluation.classification import accuracy, thirds
from tauten.evaluation.compositional import compositional
from tauten.evaluation.correlation import spearman
from tauten.evaluation.geometry import effective_rank, geometry
from tauten.evaluation.inversion import inverted
from tauten.evaluation.mahalanobis import mahalanobis, unknown_auroc
from tauten.evaluation.multi_instance import multi_instance_retrieval, multi_instance_scores
from tauten.evaluation.neighbours import knn, knn_predict
from tauten.evaluation.penalty import penalty
from tauten.evaluation.probes import few_shot, sgd_predict, sgd_probe, svm_predict, svm_probe
from tauten.evaluation.query_ranks import QueryRanks
from tauten.evaluation.ranks import ranks
from tauten.evaluation.retrieval import TIES, retrieval
from tauten.evaluation.temperatures import TauProbe
from tauten.evaluation.transport import transported
from tauten.evaluation.zero_shot import TEMPLATES, class_embeddings, zero_shot

__all__ = [
    "TEMPLATES",
    "TIES",
    "ClassScores",
    "Difference",
    "Estimate",
    "QueryRanks",
    "TauProbe",
    "accuracy",
    "bootstrap_mean",
    "class_embeddings",
    "class_retrieval",
    "class_scores",
    "compositional",
    "effective_rank",
    "few_shot",
    "geometry",
    "inverted",
    "knn",
    "knn_predict",
    "mahalanobis",
    "multi_instance_retrieval",
    "multi_instance_scores",
    "pair_auc",
    "paired_bootstrap",
    "penalty",
    "ranks",
    "retrieval",
    "sgd_predict",
    "sgd_probe",
    "spearman",
    "svm_predict",
    "svm_probe",
    "thirds",
    "transported",
    "unknown_auroc",
    "zero_shot",
]
