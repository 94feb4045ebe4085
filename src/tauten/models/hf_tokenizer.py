"""A Hugging Face tokenizer with the padding that its model was trained with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoTokenizer

from tauten.files import need, read_json
from tauten.models.open_clip import clip_config, is_open_clip
from tauten.models.saved import folder_of, logger, one_line, saved_file
from tauten.models.sentence import sentence_settings

_SETTINGS = "tauten_tokenizer.json"
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)


class HFTokenizer:
    """A Hugging Face tokenizer with our call signature.

    Texts are padded on the right. A tokenizer without a padding token takes another one in its
    place, which the mask hides.

    Args:
        tokenizer: a fast or slow ``PreTrainedTokenizer``.
        max_length: tokens kept per text.
        pad_to: length that all texts are padded to; None: that of the longest of a batch.
        lower: put texts into lower case first.

    Raises:
        ValueError: no token can be used for padding, or max_length below 1.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int = 64,
        pad_to: int | None = None,
        lower: bool = False,
    ) -> None:
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length must be 1 token or more, got {max_length!r}")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_to = pad_to
        self.lower = lower
        if tokenizer.pad_token is None:
            others = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token)
            spare = next((token for token in others if token is not None), None)
            if spare is None:
                raise ValueError(
                    f"{tokenizer.name_or_path or 'the tokenizer'} has no token to pad with: give "
                    "it a pad_token and save it again"
                )
            tokenizer.pad_token = spare

    @classmethod
    def load(cls, name: str | Path, max_length: int | None = None) -> HFTokenizer:
        """Read a tokenizer from the hub or a folder.

        Padding is that of the model beside it: SigLIP's texts are padded to its full length. A
        text is cut where the model has no more places, or where its sentence encoder or tokenizer
        says that it is, which a line in the log tells.

        Args:
            name: name of the tokenizer.
            max_length: tokens kept per text; by default as saved, else 64.

        Raises:
            ValueError: there is no tokenizer, or none of its vocabulary files.
        """
        saved = Path(name) / _SETTINGS
        settings = _own_settings(saved) if saved.is_file() else None
        place = folder_of(name)
        if settings is None:
            settings, folder, said = _settings(name)
        else:
            folder, said = "", (None, None)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                place, subfolder=folder, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ValueError(
                f"no tokenizer could be read from {name}: {one_line(error)}"
            ) from error
        names = dict(getattr(tokenizer, "vocab_files_names", None) or {}).values()
        files = dict.fromkeys((*_VOCABULARIES, *names))
        inside = f"{folder}/" if folder else ""
        if names and not any(saved_file(place, inside + file) for file in files):
            raise ValueError(
                f"{name} has no tokenizer: none of {', '.join(files)} is there; save the model's "
                "tokenizer beside it"
            )
        wanted = settings.get("max_length", 64) if max_length is None else max_length
        if not saved.is_file():
            places, own_most = said
            most = tokenizer.model_max_length if own_most is None else own_most
            wanted = _cut(wanted, (places, most), str(name))
        return cls(tokenizer, **settings | {"max_length": wanted})

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return len(self.tokenizer)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, both (N, L) long, L 1 or more."""
        if not texts:
            raise ValueError("no texts to tokenise")
        encoded = self.tokenizer(
            [text.lower() for text in texts] if self.lower else list(texts),
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        least = self.pad_to or 1
        if ids.shape[1] < least:
            ids, mask = ids.long(), mask.long()  # of nothing they are floats
            rest = (0, least - ids.shape[1])
            ids, mask = F.pad(ids, rest, value=self.tokenizer.pad_token_id), F.pad(mask, rest)
        return {"input_ids": ids, "attention_mask": mask}

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)
        settings: dict[str, Any] = {"max_length": self.max_length}
        if self.pad_to is not None:
            settings["pad_to"] = self.pad_to
        if self.lower:
            settings["lower"] = True
        (folder / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def _own_settings(path: Path) -> dict[str, Any]:
    """Read what :meth:`HFTokenizer.save` wrote beside the tokenizer's files."""
    settings = read_json(path)
    need(settings, {"max_length": int}, path)
    need({"pad_to": None, "lower": False} | settings, {"pad_to": int | None, "lower": bool}, path)
    if more := settings.keys() - {"max_length", "pad_to", "lower"}:
        raise ValueError(f"{path} is of another version of tauten: it holds {', '.join(more)}")
    checked: dict[str, Any] = settings
    return checked


def fixed_length(config: Any) -> int | None:
    """Return the length that a model's texts are always padded to, or None."""
    if str(config.model_type).startswith("siglip"):
        return int(config.max_position_embeddings)
    return None


def _settings(name: str | Path) -> tuple[dict[str, Any], str, tuple[Any, Any]]:
    """Read the settings of the model that lies beside a tokenizer.

    Returns:
        Arguments; the folder inside the model where both lie; the number of its places, and that of
        the tokens it takes of a text as a sentence encoder, where it says so.
    """
    if is_open_clip(name):
        return {}, "", (clip_config(name).text_config.max_position_embeddings, None)
    place = folder_of(name)
    try:
        sentence = sentence_settings(place, pooling="mean")
        folder, lower = sentence.folder, sentence.lower
        config = AutoConfig.from_pretrained(place, subfolder=folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError):  # a tokenizer alone
        return {}, "", (None, None)
    config = getattr(config, "text_config", config)
    places = getattr(config, "max_position_embeddings", None)
    settings = {"lower": lower, "pad_to": fixed_length(config)}
    return settings, folder, (places, sentence.max_length)


def _cut(wanted: int, said: Sequence[Any], name: str) -> int:
    """Return the tokens kept per text; the log tells where a model takes fewer than are wanted."""
    least = min([wanted, *(most for most in said if isinstance(most, int) and most > 0)])
    if least < wanted:
        logger.warning(
            "model.max_tokens=%d: %s takes %d tokens, longer captions are cut there",
            wanted,
            name,
            least,
        )
    return least
