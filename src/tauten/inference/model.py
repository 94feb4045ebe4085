"""A trained model for use: the same calls whoever trained it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from tauten.checks import whole
from tauten.evaluation import TEMPLATES, class_embeddings
from tauten.inference.pictures import as_list
from tauten.inference.searching import Found, nearest
from tauten.models.saved import one_line
from tauten.structure.embed import check_captions

if TYPE_CHECKING:
    from tauten.models import Tokenizer
    from tauten.training.options.config import DataConfig

_DECODERS = 8


class Classified(NamedTuple):
    """Classes of pictures.

    Attributes:
        labels: the most similar name of each picture.
        scores: (N, C) cosines with the names, in their order.
    """

    labels: list[str]
    scores: Tensor


@dataclass(frozen=True)
class Towers:
    """Parts by which a model embeds.

    Attributes:
        module: that has all weights.
        dim: width of the embeddings.
        picture: one picture, as users have them, to the tensor that ``images`` takes a batch of;
            None: the model takes no pictures.
        images: a batch to (N, dim); None: the model embeds no first modality.
        texts: N texts to (N, dim); None: the model embeds no texts.
        frames: number of frames of a clip; 0: the model takes pictures.
        settings: whatever else the embeddings depend on, for the fingerprint.
        tokenizer: tokenizer of a text tower of ours.
        size: that pictures of a tower of ours are brought to, and how.
    """

    module: nn.Module
    dim: int
    picture: Callable[[Any], Tensor] | None = None
    images: Callable[[Tensor], Tensor] | None = None
    texts: Callable[[list[str]], Tensor] | None = None
    frames: int = 0
    settings: str = ""
    tokenizer: Tokenizer | None = None
    size: tuple[int, int] | None = None


class Model:
    """A model that embeds pictures and texts, in evaluation mode; see :func:`tauten.load`.

    Args:
        name: by which it was loaded.
        towers: what it embeds with.
        data: how the run read its data; None: it is no run of ours.
    """

    def __init__(self, name: str, towers: Towers, data: DataConfig | None = None) -> None:
        self.name = name
        self.towers = towers
        self.data = data
        towers.module.eval()

    def __repr__(self) -> str:
        sides = [side for side in ("images", "texts") if getattr(self.towers, side) is not None]
        return f"Model({self.name!r}, dim={self.dim}, embeds {' and '.join(sides)})"

    @property
    def dim(self) -> int:
        """Width d of the embeddings."""
        return self.towers.dim

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        weight = next(self.towers.module.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    def to(self, device: str | torch.device) -> Model:
        """Move the weights to a device, and return the model."""
        try:
            wanted = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device={device!r} is no device of torch: cpu or cuda") from error
        if wanted.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device={device}: torch sees no GPU here; use device=cpu")
        try:
            self.towers.module.to(wanted)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ImportError) as error:
            raise ValueError(f"device={device} cannot be used: {one_line(error)}") from error
        return self

    def encode_image(
        self,
        images: Any,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Embed pictures, prepared as in the model's training.

        Args:
            images: paths, PIL images, numpy arrays (H, W, 3) or tensors (3, H, W), uint8 or float
                in [0, 1]; one of them alone is a batch of one. A model of clips takes sequences of
                as many pictures as its clips have frames.
            batch_size: pictures at a time.
            device: that the model is moved to first.
            progress: show a bar.

        Returns:
            (N, d) float32 on the CPU, rows of length 1.

        Raises:
            FileNotFoundError: no such file.
            ValueError: something that is no picture, or a model that takes none.
        """
        self._embeds("images")
        if self.towers.picture is None:
            raise ValueError(
                f"{self.name} was trained on features that were computed elsewhere: it takes no "
                "pictures"
            )
        given = as_list(images, self.towers.frames)
        batches = self._pixels(given, _at_least_one(batch_size))
        return self._encoded(batches, len(given), "images", device, progress)

    def encode_prepared(
        self, images: Any, batch_size: int = 64, device: str | torch.device | None = None
    ) -> Tensor:
        """Embed a tensor as the trainer has it: pixels of the model's size, clips or features.

        Args:
            images: (N, ...), or anything that gives such tensors by slices.
            batch_size: number of them at a time.
            device: that the model is moved to first.

        Returns:
            (N, d) float32 on the CPU, rows of length 1.
        """
        self._embeds("images")
        starts = range(0, len(images), _at_least_one(batch_size))
        batches = (images[start : start + batch_size] for start in starts)
        return self._encoded(batches, len(images), "images", device, False)

    def encode_text(
        self,
        texts: str | Sequence[str],
        batch_size: int = 256,
        device: str | torch.device | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Embed texts, tokenised as in the model's training.

        Args:
            texts: one or several.
            batch_size: texts at a time.
            device: that the model is moved to first.
            progress: show a bar.

        Returns:
            (N, d) float32 on the CPU, rows of length 1.

        Raises:
            ValueError: a blank text, or a model that takes none.
        """
        self._embeds("texts")
        if not isinstance(texts, Iterable):
            raise ValueError(f"texts are one text or several, not of type {type(texts).__name__}")
        given = [texts] if isinstance(texts, str) else list(texts)
        if given:
            check_captions(given)
        starts = range(0, len(given), _at_least_one(batch_size))
        batches = (given[start : start + batch_size] for start in starts)
        return self._encoded(batches, len(given), "texts", device, progress)

    def classify(
        self,
        images: Any,
        names: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        batch_size: int = 64,
    ) -> Classified:
        """Name the class of pictures by the texts that name the classes.

        Args:
            images: as :meth:`encode_image` takes them.
            names: names of the C classes.
            templates: each with one ``{}`` for the name; a class is their mean direction.
            batch_size: pictures at a time.

        Raises:
            ValueError: no names, or a template without ``{}``.
        """
        names = names if isinstance(names, str) else list(names)
        classes = class_embeddings(self.encode_text, names, templates)
        scores = self.encode_image(images, batch_size) @ classes.T
        return Classified([names[best] for best in scores.argmax(dim=1).tolist()], scores)

    def search(self, query: Any, embeddings: Any, k: int = 10) -> Found:
        """Find what is most similar to texts, pictures or vectors.

        Args:
            query: a text or several; pictures, a file as a ``Path``; or vectors, (Q, d) or (d,).
            embeddings: (N, d), or a :class:`tauten.inference.Embedded`, whose pictures are
                searched.
            k: rows of each query.

        Raises:
            ValueError: widths that differ, or numbers that are not finite.
        """
        rows = getattr(embeddings, "images", embeddings)
        return nearest(self.encode_query(query), rows, k)

    def encode_query(self, query: Any) -> Tensor:
        """Embed texts (str) or pictures (anything else); vectors stay as they are."""
        if isinstance(query, Tensor | np.ndarray) and query.ndim < 3:
            return torch.as_tensor(query)
        if isinstance(query, list | tuple) and query and all(isinstance(q, str) for q in query):
            return self.encode_text(query)
        return self.encode_text(query) if isinstance(query, str) else self.encode_image(query)

    def export(self, output: str | Path, to: str = "sentence-transformers", **options: Any) -> Path:
        """Write the model as other libraries read it; see :func:`tauten.inference.export`.

        Args:
            output: folder written to, new or empty.
            to: "sentence-transformers", "transformers", "open_clip", "torch-export" or "onnx".
            **options: ``push`` and ``private``.

        Returns:
            The folder.
        """
        write = import_module("tauten.inference.exporting").export  # which loads models
        return Path(write(self, output, to, **options))

    def fingerprint(self) -> str:
        """Return a hash of all weights and settings: equal models have equal embeddings."""
        digest = hashlib.sha256(f"{self.dim} {self.towers.settings}".encode())
        for name, value in sorted(self.towers.module.state_dict().items()):
            digest.update(name.encode())
            if isinstance(value, Tensor):
                plain = value.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(plain.numpy().tobytes())
        return digest.hexdigest()[:32]

    def _embeds(self, side: str) -> None:
        if getattr(self.towers, side) is None:
            raise ValueError(f"{self.name} does not embed {side}: choose another model")

    def _pixels(self, images: Sequence[Any], batch_size: int) -> Iterator[Tensor]:
        """Yield batches of pictures, decoded a few at a time."""
        with ThreadPoolExecutor(_DECODERS) as pool:
            for start in range(0, len(images), batch_size):
                part = [images[i] for i in range(start, min(start + batch_size, len(images)))]
                yield torch.stack(list(pool.map(self._one, part)))

    def _one(self, item: Any) -> Tensor:
        picture, frames = self.towers.picture, self.towers.frames
        assert picture is not None
        if not frames:
            return picture(item)
        if isinstance(item, str | Path) or len(item) != frames:
            raise ValueError(
                f"{self.name} takes clips: give each as a sequence of {frames} pictures"
            )
        return torch.stack([picture(frame) for frame in item])

    @torch.no_grad()
    def _encoded(
        self,
        batches: Iterable[Any],
        count: int,
        side: str,
        device: str | torch.device | None,
        progress: bool,
    ) -> Tensor:
        """Embed batches of one side; the numbers are those of the trainer's own evaluation."""
        if device is not None:
            self.to(device)
        encode, done = getattr(self.towers, side), []
        self.towers.module.eval()
        with tqdm(total=count, desc=side, disable=not progress) as bar:
            for batch in batches:
                inputs = batch.to(self.device) if isinstance(batch, Tensor) else batch
                done.append(encode(inputs).float().cpu())
                bar.update(len(batch))
        return F.normalize(torch.cat(done), dim=1) if done else torch.empty(0, self.dim)


def _at_least_one(batch_size: int) -> int:
    return whole("batch_size", batch_size, 1)
