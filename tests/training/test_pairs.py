import torch

from tauten.models import BagTokenizer
from tauten.training import DataConfig
from tauten.training.pairs import PairStore, training_texts
from tauten.training.splits import PairData


def data():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    images[2] = images[0]
    return PairData(
        images=images,
        captions=[["cat"], ["dog", "hound"], ["bird"], ["cat"]],
        alternatives=["feline", "", "avian", "feline"],
        keywords=[["pet", "fur"], [], ["wing"], ["pet"]],
        labels=None,
        fingerprint="",
    )


def store(**fields):
    config = DataConfig(**fields)
    tokenizer = BagTokenizer.fit(training_texts(data(), config))
    return PairStore(data(), tokenizer, config)


def texts(store, index):
    ids = store.batch(torch.tensor(index))["texts"]["input_ids"]
    names = dict(enumerate(store.tokenizer.vocabulary, 2))
    return [" ".join(names[int(i)] for i in row if i > 1) for row in ids]


def test_equal_images_and_captions_have_equal_ids():
    batch = store().batch(torch.tensor([0, 1, 2, 3]))
    image_ids, caption_ids = batch["same"]
    assert image_ids[0] == image_ids[2] != image_ids[3]
    assert caption_ids[0] == caption_ids[3] != caption_ids[2]
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["images"].dtype == torch.uint8


def test_one_of_several_captions_is_drawn():
    torch.manual_seed(0)
    assert {texts(store(), [1])[0] for _ in range(30)} == {"dog", "hound"}


def test_alternatives_and_keywords():
    torch.manual_seed(0)
    assert texts(store(alternative=1.0), [0, 1, 2])[0::2] == ["feline", "avian"]
    seen = {texts(store(keywords=1.0), [0])[0] for _ in range(20)}
    assert seen == {"cat pet", "cat fur"}
    assert texts(store(), [0]) == ["cat"]


def test_the_generator_determines_the_batch():
    made = store(alternative=0.5, keywords=0.5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = [texts(made, [0, 1, 2, 3]) for _ in range(5)]
    torch.set_rng_state(state)
    assert [texts(made, [0, 1, 2, 3]) for _ in range(5)] == first
    assert any(a != first[0] for a in first)


def test_vocabulary_is_of_what_training_shows():
    assert set(training_texts(data(), DataConfig())) == {"cat", "dog", "hound", "bird"}
    assert "avian" in training_texts(data(), DataConfig(alternative=0.1))
    assert "wing" in training_texts(data(), DataConfig(keywords=0.1))
