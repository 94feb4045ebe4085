"""Names of the files of a run, and of entries of its record."""

from __future__ import annotations

from tauten.outcome import OUTCOME

CONFIG, HISTORY, RESULTS = "config.yaml", "history.jsonl", "results.json"
SAMPLES, EMBEDDINGS, CHECKPOINTS = "samples.npz", "embeddings.npz", "checkpoints"
FEATURES = "features.npz"
SHARDS = "shards.jsonl"
IMAGES, TRAIN_IMAGES = "test_images.npz", "train_images.npz"
TENSORBOARD, FAILURE = "tensorboard", "failure.json"
MARK = "tauten_run"
#: 2: places are relative to the run
FORMAT = 2
#: in a record: how far the training went before it was made longer
EXTENDED = "extended"
#: in the contents of a record: the weights that the run began with
INIT = "init"
#: what results rest on, or are shown beside them
SEALED = (HISTORY, SAMPLES, OUTCOME, EMBEDDINGS, FEATURES, IMAGES, TRAIN_IMAGES)
#: the configuration last: it is what tells that the others are those of a run
ALL = (*SEALED, RESULTS, FAILURE, CHECKPOINTS, TENSORBOARD, CONFIG)
