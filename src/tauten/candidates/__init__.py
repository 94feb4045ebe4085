"""Sources of candidates beside the batch: a queue of earlier keys, a slowly moving encoder, hard
negatives of each anchor's own, mined or drawn by similarity, mixtures, means of classes.
"""

from tauten.candidates.class_means import class_means
from tauten.candidates.class_queues import ClassQueues, boundary_pixels
from tauten.candidates.clustered_memory import ClusteredMemory
from tauten.candidates.drawn import drawn_negatives
from tauten.candidates.everybody import everybody
from tauten.candidates.keys import Keys
from tauten.candidates.label_mixing import LabelMixer, LabelMixtures
from tauten.candidates.mined import mined_negatives
from tauten.candidates.mixing import Mixer
from tauten.candidates.momentum import MomentumEncoder
from tauten.candidates.noise import SignNoise
from tauten.candidates.online_clusters import OnlineClusters
from tauten.candidates.own import Negatives, OwnNegatives, as_negatives
from tauten.candidates.prototypes import Prototypes, concentrations
from tauten.candidates.queue import KeyQueue, PairQueue

__all__ = [
    "ClassQueues",
    "ClusteredMemory",
    "KeyQueue",
    "Keys",
    "LabelMixer",
    "LabelMixtures",
    "Mixer",
    "MomentumEncoder",
    "Negatives",
    "OnlineClusters",
    "OwnNegatives",
    "PairQueue",
    "Prototypes",
    "SignNoise",
    "as_negatives",
    "boundary_pixels",
    "class_means",
    "concentrations",
    "drawn_negatives",
    "everybody",
    "mined_negatives",
]
