"""A tower made of any Hugging Face text model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tauten.models.hf_tokenizer import fixed_length
from tauten.models.hf_weights import (
    at_random,
    check_weights,
    is_decoder,
    load_model,
    rebuilt,
    text_part,
    width_of,
    without_pooler,
)
from tauten.models.pooling import Pooling, pool
from tauten.models.saved import folder_of, one_line
from tauten.models.sentence import DenseLayers, SentenceSettings, sentence_settings
from tauten.models.tower import Description, Tower


class HFTextTower(Tower):
    """A Hugging Face text model; the encoder of one that has a decoder too.

    SigLIP's texts are padded to its full length, and their padding counts, as in its training.

    Args:
        model: called with ``input_ids`` and ``attention_mask``.
        pooling: see :func:`pool`.
        dense: layers after pooling, as ``DenseLayers`` takes them.

    Raises:
        ValueError: the width of the vectors cannot be told.
    """

    def __init__(
        self, model: Any, pooling: Pooling = "auto", dense: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.dense = [dict(layer) for layer in dense]
        width = dense[-1]["outputs"] if dense else width_of(model.config)
        if width is None:
            raise ValueError(
                f"cannot tell the width of a {type(model.config).__name__}: it has none of "
                "projection_size, hidden_size, dim, d_model"
            )
        self.width = int(width)
        if dense:
            self.head = DenseLayers(dense)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> HFTextTower:
        """Build the tower with random weights."""
        return cls(text_part(at_random(getattr(config, "text_config", config))), **kwargs)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, pooling: Pooling = "auto", **kwargs: Any
    ) -> HFTextTower:
        """Load weights as float32, with pooling and dense layers of a sentence encoder.

        Where nothing is saved about pooling, a decoder takes its last token, a model whose file
        has no weights of its pooler the mean, others as :func:`pool` does. The Normalize at the
        end of a sentence encoder is left out: it changes no direction.

        Args:
            name: name of the model, its folder, or "minilm", see :func:`folder_of`.
            pooling: takes the place of the saved one, unless it is "auto".
            **kwargs: passed to ``AutoModel.from_pretrained``.

        Raises:
            ValueError: no model can be read, or it has modules that cannot be honoured.
        """
        place = folder_of(name)
        sentence = sentence_settings(place, pooling, **kwargs)
        inside = {"subfolder": sentence.folder} if sentence.folder else {}
        model, missing = load_model(place, **inside, **kwargs)
        return cls.of_model(model, sentence, missing, name, pooling)

    @classmethod
    def of_model(
        cls,
        model: Any,
        sentence: SentenceSettings,
        missing: Sequence[str],
        name: str | Path,
        pooling: Pooling = "auto",
    ) -> HFTextTower:
        """Make a tower of the text part of a model.

        Args:
            model: the whole model.
            sentence: settings of a sentence encoder.
            missing: weights that its file did not have.
            name: for messages.
            pooling: takes the place of the saved one, unless it is "auto".

        Raises:
            ValueError: most weights are missing.
        """
        part = text_part(model)
        check_weights(model, part, missing, name)
        saved = sentence.pooling or (None if pooling == "auto" else pooling)
        if saved is None and is_decoder(part.config):
            saved = "last"
        if saved is None:
            saved = without_pooler(missing, name, "mean", ("text_model.pooler", "pooler"))
        tower = cls(part, saved or "auto", sentence.dense)
        if sentence.dense:
            layers = [layer for layer in tower.head if isinstance(layer, nn.Linear)]
            for layer, weights in zip(layers, sentence.weights, strict=True):
                try:
                    layer.load_state_dict(weights)
                except RuntimeError as error:
                    raise ValueError(f"{name}: a Dense layer: {one_line(error)}") from error
        return tower

    @classmethod
    def from_description(cls, config: dict[str, Any], **kwargs: Any) -> HFTextTower:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        return cls.from_config(rebuilt(config), **kwargs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map (N, L) ids to (N, width)."""
        length = fixed_length(self.model.config)
        if length is not None:
            rest = (0, max(length - input_ids.shape[1], 0))
            padded = F.pad(input_ids, rest, value=self.model.config.pad_token_id or 0)
            pooled = pool(self.model(input_ids=padded), None, self.pooling)
        else:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask)
            pooled = pool(output, attention_mask, self.pooling)
        out: Tensor = self.head(pooled) if self.dense else pooled
        return out

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "huggingface-text",
            "config": self.model.config.to_dict(),
            "pooling": self.pooling,
        } | ({"dense": self.dense} if self.dense else {})
