import pytest
import torch

from tauten.data import ShardPairs, index_shards, load_pairs
from tauten.training.options.config import DataConfig
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.shards import ShardStore
from tauten.training.stores.tables import to_pairs


def relation(ids):
    return ids[:, None] == ids[None]


@pytest.mark.parametrize(("alternative", "keywords"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_its_batches_are_those_of_pairs_in_memory(shards, tmp_path, alternative, keywords):
    whole = load_pairs(str(tmp_path / "*.tar"))
    config = DataConfig(source=str(tmp_path), alternative=alternative, keywords=keywords)
    captions = torch.arange(40) % 3 + 1
    memory = PairStore(to_pairs(whole, config), list, config, captions)
    pairs = ShardPairs(index_shards(shards, tmp_path / "found.jsonl"), image_size=32)
    store = ShardStore(pairs, list, alternative=alternative, keywords=keywords, captions=captions)
    assert len(store) == len(memory) == 40
    index = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    index = torch.cat([index, index[:3]])
    torch.manual_seed(7)
    expected = memory.batch(index)
    torch.manual_seed(7)
    found = store.batch(index)
    assert list(found) == list(expected)
    assert found["texts"] == expected["texts"]
    for name in ("images", "index", "caption"):
        assert torch.equal(found[name], expected[name])
    for mine, other in zip(found["same"], expected["same"], strict=True):
        assert torch.equal(relation(mine), relation(other))
        assert relation(mine).sum() > 43


def test_a_sample_that_cannot_be_used_changes_no_other(shards, tmp_path, members, write_tar):
    whole = ShardPairs(index_shards(shards, tmp_path / "whole.jsonl"), image_size=8)
    broken = [dict(sample) for sample in members]
    broken[5] = dict.fromkeys(broken[5], b"")
    path = write_tar(tmp_path / "broken.tar", broken)
    damaged = ShardPairs(index_shards(path, tmp_path / "broken.jsonl"), image_size=8)
    stores = ShardStore(whole, list), ShardStore(damaged, list)
    index = torch.tensor([4, 5, 30])
    batches = []
    for store in stores:
        torch.manual_seed(0)
        batches.append(store.batch(index))
        batches[-1]["next"] = torch.rand(1)
    assert batches[1]["index"].tolist() == [4, 30]
    assert batches[1]["texts"] == [batches[0]["texts"][i] for i in (0, 2)]
    assert torch.equal(batches[1]["images"], batches[0]["images"][[0, 2]])
    assert torch.equal(batches[1]["next"], batches[0]["next"])
    assert [store.skipped.count for store in stores] == [0, 1]


def test_what_is_refused(shards, tmp_path):
    catalogue = index_shards(shards, tmp_path / "whole.jsonl")
    with pytest.raises(ValueError, match="give image_size="):
        ShardStore(ShardPairs(catalogue), list)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 0.0 and 2.0"):
        ShardStore(ShardPairs(catalogue, image_size=8), list, keywords=2.0)
