import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tauten.data import emoji_lt, images
from tauten.data.long_tail import exponential_counts
from tauten.data.readers import READERS, Figures, read, to_dataset
from tauten.data.readers.cifar import CIFAR10, long_tailed_cifar
from tauten.data.readers.cifar_pickle import read_cifar

EACH, TEST = 240, 60
SMALL = replace(CIFAR10, train=("data_batch_1", "data_batch_2"), per_class=EACH, classes=3)
NAMES = [b"airplane", b"bird", b"cat"]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory) -> Path:
    """780 real drawings of 32 x 32 pixels, with the labels of three classes, as CIFAR's pickles."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-py"
    folder.mkdir()
    count = 3 * EACH
    pixels = images(emoji_lt("train").select(range(count + TEST))).numpy().reshape(-1, 3072)
    mixed = np.random.default_rng(5).permutation(np.arange(count) % 3)
    labels = [*mixed.tolist(), *(k % 3 for k in range(TEST))]

    def write(name: str, rows: slice) -> None:
        batch = {b"data": pixels[rows], b"labels": labels[rows], b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))

    write("data_batch_1", slice(0, 300))
    write("data_batch_2", slice(300, count))
    write("test_batch", slice(count, count + TEST))
    meta = {b"label_names": NAMES, b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder.parent


def labels_of(root: Path) -> np.ndarray:
    parts = [
        pickle.loads((root / "cifar-10-batches-py" / f"data_batch_{k}").read_bytes())
        for k in (1, 2)
    ]
    return np.concatenate([part[b"labels"] for part in parts])


def findings(report) -> dict:
    return {finding.name: finding for finding in report.findings}


@pytest.mark.parametrize(
    ("name", "total", "head", "tail"),
    [
        ("cifar10_lt_sdclr", 11_165, 4500, 45),
        ("cifar100_lt_sdclr", 9_754, 450, 4),
        ("cifar10_lt_isogclr", 12_406, 5000, 50),
        ("cifar100_lt_isogclr", 10_847, 500, 5),
    ],
)
def test_the_sizes_of_both_published_families(name, total, head, tail):
    figures = READERS[name].figures
    train = figures["train"]
    assert (train.samples, train.largest, train.smallest) == (total, head, tail)
    assert figures["test"].samples == 10_000
    assert ("val" in figures) == name.endswith("sdclr")


def test_the_isogclr_family_draws_what_its_code_draws(cifar):
    """Literal transcription: seed 0, class by class, shuffle the positions, take the first."""
    labels = labels_of(cifar)
    reader = long_tailed_cifar("small", SMALL, "isogclr")
    random = np.random.RandomState(0)
    drawn = []
    for k in range(3):
        count = int(EACH * 0.01 ** (k / 2))
        positions = np.where(labels == k)[0]
        random.shuffle(positions)
        drawn += positions[:count].tolist()
    found = reader(cifar)
    assert [entry.id for entry in found.splits["train"]] == [f"train_{i:05d}" for i in drawn]
    assert found.variant == "LDAM/iSogCLR, seed 0"
    assert sorted(found.splits) == ["test", "train"]


def test_the_sdclr_family_keeps_a_tenth_for_validation(cifar):
    reader = long_tailed_cifar("small", SMALL, "sdclr")
    found = reader(cifar)
    train, val, test = (found.splits[name] for name in ("train", "val", "test"))
    assert (len(val), len(test)) == (72, 60)
    assert not {e.id for e in train} & {e.id for e in val}
    sizes = sorted((sum(e.label == n.decode() for e in train) for n in NAMES), reverse=True)
    assert sizes == exponential_counts(216, 3)
    assert "not the published ones" in found.variant
    assert reader(cifar).fingerprint() == found.fingerprint()


def test_a_published_index_file_decides(cifar, tmp_path):
    labels = labels_of(cifar)
    for file in (cifar / "cifar-10-batches-py").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    chosen = [
        i
        for k, count in zip((2, 0, 1), exponential_counts(216, 3), strict=True)
        for i in np.flatnonzero(labels == k)[:count]
    ]
    np.save(tmp_path / "split1_D_i.npy", np.array(chosen))
    reader = long_tailed_cifar("small", SMALL, "sdclr")
    found = reader(tmp_path)
    assert [entry.id for entry in found.splits["train"]] == [f"train_{i:05d}" for i in chosen]
    assert found.variant == "SDCLR/TS, train split1_D_i.npy, val seed 0"
    assert found.notes[0].ok
    assert not {e.id for e in found.splits["train"]} & {e.id for e in found.splits["val"]}
    held = [i for i in range(len(labels)) if i not in set(chosen)][5:45]
    (tmp_path / "split").mkdir()
    np.save(tmp_path / "split" / "valIdxList.npy", np.array(held))
    found = reader(tmp_path)
    assert [entry.id for entry in found.splits["val"]] == [f"train_{i:05d}" for i in held]
    assert found.variant == "SDCLR/TS, train split1_D_i.npy, val valIdxList.npy"
    np.save(tmp_path / "split1_D_i.npy", np.array(chosen[:-1]))
    assert not reader(tmp_path).notes[0].ok


def test_pixels_labels_and_names_are_those_of_the_batches(cifar):
    found = long_tailed_cifar("small", SMALL, "isogclr")(cifar)
    original = images(emoji_lt("train").select(range(3 * EACH, 3 * EACH + TEST)))
    entries = found.splits["test"]
    dataset = to_dataset(entries)
    assert np.array_equal(images(dataset).numpy(), original.numpy())
    test = pickle.loads((cifar / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert dataset["label"] == [NAMES[k].decode() for k in test[b"labels"]]


def test_a_pickle_of_anything_else_is_refused_and_not_run(cifar, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for file in (cifar / "cifar-10-batches-py").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps({b"data": Bomb()}, protocol=2))
    report = READERS["cifar10_lt_isogclr"].check(tmp_path, progress=False)
    assert not report.usable
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(ValueError, match="data_batch_2: refused, nothing was run"):
        read_cifar(tmp_path / "data_batch_2")
    (tmp_path / "data_batch_2").write_bytes(b"cut")
    with pytest.raises(ValueError, match="no readable batch"):
        read_cifar(tmp_path / "data_batch_2")
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="holds a list"):
        read_cifar(tmp_path / "data_batch_2")


def test_a_batch_as_python_2_wrote_it_is_read(tmp_path):
    """The opcodes of the published files: protocol 2, byte strings as SHORT_BINSTRING."""
    raw = bytes(range(250, 256))
    pickled = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03"
        b"cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86"
        b"cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x06" + raw + b"tbU\x06labelsq\x08]q\x09(K\x07K\x08eu."
    )
    (tmp_path / "batch").write_bytes(pickled)
    found = read_cifar(tmp_path / "batch")
    assert found["data"].tolist() == [[250, 251, 252], [253, 254, 255]]
    assert found["labels"] == [7, 8]


@pytest.fixture
def imagenet(tmp_path: Path, put) -> Path:
    lists = {"train": [(k, k // 4) for k in range(8)], "val": [(8, 0)], "test": [(9, 1)]}
    for split, rows in lists.items():
        lines = []
        for k, label in rows:
            name = f"train/n{label:08d}/n{label:08d}_{k}.JPEG"
            put(tmp_path / name, k)
            lines.append(f"{name} {label}\n")
        (tmp_path / f"ImageNet_LT_{split}.txt").write_text("".join(lines))
    return tmp_path


def test_imagenet_lt_is_read_from_its_lists(imagenet):
    found = read("imagenet_lt", imagenet)
    assert [entry.label for entry in found.splits["train"]] == ["0"] * 4 + ["1"] * 4
    figures = {"train": Figures(8, 0, 2, 4, 4), "val": Figures(1), "test": Figures(1)}
    assert replace(READERS["imagenet_lt"], figures=figures).check(imagenet, progress=False).usable
    report = READERS["imagenet_lt"].check(imagenet, progress=False)
    assert findings(report)["train samples"].expected == 115_846
    assert not report.usable


def test_imagenet100_lt_is_read_from_a_folder_of_splits(tmp_path, put):
    put(tmp_path / "imagenet" / "train" / "a.JPEG")
    names = ("imageNet_100_LT_train", "ImageNet_100_val", "ImageNet_100_test")
    for name in names:
        file = tmp_path / "split" / "imagenet-100" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("train/a.JPEG 26\n")
    found = read("imagenet100_lt", tmp_path)
    assert found.splits["val"][0].media == tmp_path / "imagenet" / "train" / "a.JPEG"
    report = findings(READERS["imagenet100_lt"].check(tmp_path, progress=False))
    assert report["train samples"].expected == 12_205
    assert report["ids in two splits"].found == 1


@pytest.mark.parametrize("line", ["train/a.JPEG", "train/a.JPEG x", ""])
def test_lines_of_another_form_are_named(imagenet, line):
    (imagenet / "ImageNet_LT_val.txt").write_text(f"train/a.JPEG 1\n{line}\n")
    remedy = READERS["imagenet_lt"].check(imagenet).findings[0].remedy
    assert "ImageNet_LT_val.txt, line 2" in remedy


def test_inaturalist_has_species_and_super_categories(tmp_path, put):
    for split, offset in (("train", 0), ("val", 10)):
        rows, notes = [], []
        for k in range(offset, offset + 3):
            name = f"train_val2018/{('Aves', 'Fungi')[k % 2]}/{k % 2}/{k}.jpg"
            put(tmp_path / name, k)
            rows.append({"id": k, "file_name": name})
            notes.append({"id": k, "image_id": k, "category_id": k % 2})
        content = {"images": rows, "annotations": notes[::-1]}
        (tmp_path / f"{split}2018.json").write_text(json.dumps(content))
    train = read("inaturalist2018", tmp_path).splits["train"]
    assert [(entry.label, entry.group) for entry in train] == [
        ("0", "Aves"),
        ("1", "Fungi"),
        ("0", "Aves"),
    ]
    report = findings(READERS["inaturalist2018"].check(tmp_path, progress=False))
    assert report["train samples"].expected == 437_513
    assert report["samples with media"].found == 6


@pytest.mark.parametrize("name", ["emoji_lt", "emoji_video", "caltech98_lt", "coco35"])
def test_small_sets_are_as_described(shared_data, name):
    report = READERS[name].check(shared_data, progress=False)
    assert report.usable
    assert [finding.name for finding in report.findings if not finding.ok] == []


def test_a_small_set_becomes_a_data_set(shared_data):
    dataset = to_dataset(read("caltech98_lt", shared_data).splits["test"][:12])
    assert dataset["label"][0] == "leopard"
    assert images(dataset).shape == (12, 3, 64, 64)
