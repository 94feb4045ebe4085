"""EPIC-KITCHENS-100: files in the official layout, the published counts, the published pickles."""

import gzip
import pickle

import numpy as np
import pytest
import torch

import tauten as tt
from tauten.data.caption_sampling import CaptionSampler
from tauten.data.epic_files import epic_classes
from tauten.data.epic_kitchens import (
    check_epic_kitchens,
    load_epic_kitchens,
    load_published_relevancy,
)

HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
CLIPS = [
    "P01_01_0,P01,P01_01,0,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,['door'],[3]",
    'P01_01_1,P01,P01_01,0,00:01:04.37,01:00:06.17,1,2,"take cup, plate",take,0,cup,13,'
    "\"['cup', 'plate']\",\"[13, 2]\"",
    "P02_03_9,P02,P02_03,0,00:00:01.00,00:00:01.01,1,2,open door,open,3,door,3,['door'],[3]",
    "P02_03_10,P02,P02_03,0,00:00:02.00,00:00:09.00,1,2,stir,stir,10,pan,5,['pan'],[5]",
    "P02_03_11,P02,P02_03,0,00:00:02.00,00:00:09.00,1,2,stir,stir,10,pot,6,['pot'],[6]",
]
SENTENCES = {
    "test": [
        "narration_id,narration",
        "P01_01_0,open door",
        "P01_01_1,open door",
        "P02_03_10,stir",
    ],
    "train": [
        "narration_id,narration,verb_class,noun_classes,verb,nouns",
        "P01_01_0,open door,3,[3],open,['door']",
        'P01_01_1,"open door",0,"[13, 2]",take,"[\'cup\', \'plate\']"',
        "P02_03_10,stir,10,[5],stir,['pan']",
    ],
}
SUBSTITUTE = [
    "narration_id,video_id,start_frame_30fps,stop_frame_30fps,verb_class,noun_class,action_id",
    "P01_01_0,P01_01,4,101,3,3,1",
    "P01_01_1,P01_01,1931,108185,0,13,2",
    "P02_03_9,P02_03,30,30,3,3,1",
    "P02_03_10,P02_03,60,270,10,5,4",
]


def write(folder, name, lines, *, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    content = ("\n".join(lines) + "\n").encode()
    if zipped:
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    else:
        (folder / name).write_bytes(content)


@pytest.fixture
def root(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / "retrieval_annotations"
        write(folder, f"EPIC_100_retrieval_{split}.csv", [HEADER, *CLIPS], zipped=split == "test")
        write(folder, f"EPIC_100_retrieval_{split}_sentence.csv", SENTENCES[split])
    return tmp_path


def test_a_split_in_the_official_layout(root):
    data = load_epic_kitchens(root, "test", strict=False)
    assert len(data) == 5
    assert data.narration_id[1] == "P01_01_1"
    assert data.video_id[3] == "P02_03"
    assert data.seconds[1].tolist() == [64.37, 3606.17]
    assert data.narration[1] == "take cup, plate"
    assert data.verb.tolist() == [3, 0, 3, 10, 10]
    assert data.nouns == ((3,), (13, 2), (3,), (5,), (6,))
    assert not bool(data.first_noun_only.any())
    assert data.sentences.clip.tolist() == [0, 1, 3]
    assert data.sentences.nouns == ((3,), (13, 2), (5,))
    assert data.sentence.tolist() == [0, 1, 0, 2, 2]


def test_test_sentences_are_read_as_the_official_evaluation_does(root):
    """The text of a row may be another clip's; that of the clip which stands for it counts."""
    test = load_epic_kitchens(root, "test", strict=False)
    train = load_epic_kitchens(root, "train", strict=False)
    assert test.sentences.text == ("open door", "take cup, plate", "stir")
    assert train.sentences.text == ("open door", "open door", "stir")


def test_frames_are_counted_from_0_and_never_none(root):
    data = load_epic_kitchens(root, "test", strict=False)
    assert data.frames(0, fps=60) == (8, 202)
    assert data.frames(2, fps=30) == (30, 31)


def test_relevancy_follows_from_the_classes(root):
    data = load_epic_kitchens(root, "test", strict=False)
    assert data.relevancy(progress=False).dense().tolist() == [
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.0, 0.0, 0.5],
    ]


def test_classes_and_their_counts(root):
    data = load_epic_kitchens(root, "train", strict=False)
    assert data.labels("verb_noun") == [(3, 3), (0, 13), (3, 3), (10, 5), (10, 6)]
    assert data.per_sample_counts("noun").tolist() == [2, 1, 2, 1, 1]
    assert data.per_sample_counts("verb").tolist() == [2, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="by must be 'noun', 'verb' or 'verb_noun', got 'action'"):
        data.labels("action")


def test_clips_with_their_first_noun_only(root):
    official = root / "retrieval_annotations" / "EPIC_100_retrieval_train.csv"
    official.unlink()
    write(root, "train_segments_67217.csv", SUBSTITUTE, zipped=True)
    data = load_epic_kitchens(root, "train", strict=False)
    assert data.nouns == ((3,), (13, 2), (3,), (5,))
    assert data.first_noun_only.tolist() == [False, False, True, False]
    assert data.sentence.tolist() == [0, 1, -1, 2]
    assert data.narration == (None,) * 4
    assert data.seconds[0].tolist() == [4 / 30, 101 / 30]
    assert data.labels("noun") == [3, 13, 3, 5]


def test_counts_that_differ_are_all_named(root):
    with pytest.raises(
        ValueError, match="(?s)test clips: 5, published 9668.*test sentences: 3,"
    ) as e:
        load_epic_kitchens(root, "test")
    assert "epic-kitchens-100-annotations, folder retrieval_annotations" in str(e.value)
    found = {finding.name: finding for finding in check_epic_kitchens(root)}
    assert (found["train clips"].found, found["train clips"].expected) == (5, 67217)
    assert found["test clips with all nouns"].ok
    assert not found["test clips"].ok
    assert "no EPIC_100_verb_classes.csv" in found["classes"].remedy


def test_missing_files_say_where_to_get_them(tmp_path):
    for split in ("train", "test"):
        with pytest.raises(FileNotFoundError, match=r"no EPIC_100_retrieval_.*csv.*https://github"):
            load_epic_kitchens(tmp_path, split)
    found = check_epic_kitchens(tmp_path)
    assert [finding.name for finding in found] == ["train clips", "test clips", "classes"]
    assert all(finding.found is None and not finding.ok for finding in found)
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        load_epic_kitchens(tmp_path, "val")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"[13, 2]"', "\"__import__('os')\"", "row 1: .* is not a list of noun classes"),
        ('"[13, 2]"', "[]", "row 1: .* is not a list of noun classes"),
        ('"[13, 2]"', '"[13, 2"', "row 1: .* is not a list of noun classes"),
        ('"[13, 2]"', '"[13, -2]"', "row 1: .* is not a list of noun classes"),
        ("take,0,", "take,many,", "row 1: 'many' is not a whole number"),
        ("00:01:04.37", "later", "row 1: 'later' is not a time"),
        ("all_noun_classes", "nouns_of_clip", "no rows with a column all_noun_classes"),
    ],
)
def test_cells_that_mean_nothing(root, old, new, message):
    file = root / "retrieval_annotations" / "EPIC_100_retrieval_train.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_epic_kitchens(root, "train", strict=False)


def test_sentences_of_other_clips(root):
    write(
        root / "retrieval_annotations",
        "EPIC_100_retrieval_test_sentence.csv",
        [*SENTENCES["test"], "P99_99_9,fly"],
    )
    with pytest.raises(ValueError, match="1 sentences stand for clips .* first: P99_99_9"):
        load_epic_kitchens(root, "test", strict=False)


@pytest.mark.parametrize("further", [0, 1])
def test_published_pickles(root, further):
    """The training matrix has one column more than there are sentences."""
    data = load_epic_kitchens(root, "train", strict=False)
    ours = data.relevancy(progress=False)
    path = root / "caption_relevancy_EPIC_100_retrieval_train.pkl"
    matrix = ours.dense().double().numpy()
    path.write_bytes(pickle.dumps(np.hstack([matrix, np.zeros((5, further))])))
    found = load_published_relevancy(path, data, progress=False)
    assert torch.equal(found.dense(), ours.dense())
    path.write_bytes(pickle.dumps(matrix[:, ::-1]))
    with pytest.raises(ValueError, match="made for other sentences"):
        load_published_relevancy(path, data, progress=False)
    path.write_bytes(pickle.dumps(matrix[:4]))
    with pytest.raises(ValueError, match="the matrix is 4 x 3, but the train split has 5 clips"):
        load_published_relevancy(path, data, progress=False)


# --- the published annotations


@pytest.fixture(scope="module")
def ek100(shared_data):
    if not (shared_data / "ek100").is_dir():
        pytest.skip(f"annotations not found at {shared_data / 'ek100'}")
    return shared_data / "ek100"


@pytest.fixture(scope="module")
def test_split(ek100):
    return load_epic_kitchens(ek100, "test")


@pytest.fixture(scope="module")
def train_split(ek100):
    return load_epic_kitchens(ek100, "train")


def test_the_published_annotations_are_whole(ek100):
    findings = check_epic_kitchens(ek100)
    wrong = [finding for finding in findings if not finding.ok]
    assert len(findings) == 12
    assert [finding.name for finding in wrong] == ["train clips with all nouns"]
    assert not wrong[0].fatal
    assert wrong[0].found == 15_989
    classes = epic_classes(ek100)
    assert (classes.verbs[0], classes.nouns[0]) == ("take", "tap")
    assert (len(classes.tail_verbs), len(classes.tail_nouns)) == (86, 228)


def test_the_official_relevancy_of_the_test_split(test_split):
    relevancy = test_split.relevancy(progress=False)
    assert relevancy.shape == (9_668, 3_842)
    summary = relevancy.summary()
    assert summary["mean"] == pytest.approx(0.05493, abs=5e-6)
    assert summary["share_above_0"] == pytest.approx(0.1137, abs=5e-5)
    assert summary["ones_per_row"] == pytest.approx(6.468, abs=5e-4)
    assert summary["rows_without_one"] == 0
    assert bool((relevancy.of(test_split.sentences.clip, torch.arange(3_842)) == 1).all())
    assert bool((test_split.sentence >= 0).all())


def test_the_clusters_of_mm_ts(train_split):
    index = torch.arange(len(train_split))
    expected = {"noun": (289, 2, 3_617, 53), "verb": (97, 1, 14_848, None)}
    expected["verb_noun"] = (3_568, 1, 1_784, 3)
    for by, (classes, least, most, median) in expected.items():
        counts = train_split.per_sample_counts(by)
        of_class = dict(zip(train_split.labels(by), counts.tolist(), strict=True))
        sizes = torch.tensor(list(of_class.values()))
        assert (len(sizes), int(sizes.min()), int(sizes.max())) == (classes, least, most)
        assert median in (None, int(sizes.median()))
    tau = tt.mmts(train_split.per_sample_counts(), alpha=0.2, shift=(0.17, 0.30), period=2620)
    assert float(tau.at(index, step=655).double().mean()) == pytest.approx(0.2112, abs=5e-5)
    assert float(tau.at(index).max()) == pytest.approx(0.40)
    assert float(tau.at(index, step=1310).min()) == pytest.approx(0.07)


def test_captions_of_training(train_split):
    relevancy = train_split.relevancy(progress=False)
    assert relevancy.shape == (67_217, 15_989)
    sampler = CaptionSampler(relevancy)
    assert int(sampler.candidates.counts().min()) >= 1
    clips = torch.arange(0, 67_217, 131)
    sentences, weights = sampler.sample(clips, epoch=0)
    verb, verbs = train_split.verb, train_split.sentences.verb
    for clip, sentence, weight in zip(
        clips.tolist(), sentences.tolist(), weights.tolist(), strict=True
    ):
        nouns = set(train_split.nouns[clip]), set(train_split.sentences.nouns[sentence])
        iou = len(nouns[0] & nouns[1]) / len(nouns[0] | nouns[1])
        same = float(verb[clip] == verbs[sentence])
        assert weight == pytest.approx((same + iou) / 2, abs=1e-6)
        assert weight > 0.1


def test_graded_and_textbook_metrics_on_real_relevancy(test_split):
    """A part of the test split: official mAP counts partial relevance, so it is never below."""
    clips, sentences = torch.arange(0, 9_668, 40), torch.arange(0, 3_842, 12)
    rel = test_split.relevancy(progress=False).between(clips, sentences)
    sim = rel + 0.3 * torch.randn(rel.shape, generator=torch.Generator().manual_seed(0))
    found = tt.evaluation.multi_instance_retrieval(sim, rel)
    for side in ("x2y", "y2x", "mean"):
        assert found[f"mAP_official/{side}"] > found[f"mAP_textbook/{side}"]
    perfect = tt.evaluation.multi_instance_retrieval(rel, rel)
    assert perfect["nDCG/mean"] == pytest.approx(1.0)
    assert perfect["mAP_official/mean"] == pytest.approx(1.0)
