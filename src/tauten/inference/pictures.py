"""Pictures as users have them: files, bytes, PIL images, arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tauten.data.pixels import to_rgb
from tauten.data.sizes import resized
from tauten.structure.cells import short

_ONE = (str, Path, Image.Image, bytes, bytearray, io.IOBase, dict)


def as_list(images: Any, frames: int = 0) -> Sequence[Any]:
    """Return a sequence of pictures, or of clips, also where one alone is given.

    Args:
        images: a path, PIL image or array, or a sequence of them.
        frames: number of frames of a clip, which is a sequence of pictures; 0: pictures.
    """
    if isinstance(images, _ONE):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        alone = images.ndim < (5 if frames else 4)
        return [images] if alone else images  # type: ignore[return-value]
    if not isinstance(images, Iterable):
        raise ValueError(_no_picture(images))
    pictures = list(images)
    if frames and pictures and not isinstance(pictures[0], list | tuple | np.ndarray | Tensor):
        return [pictures]
    return pictures


def opened(picture: Any) -> Image.Image:
    """Return a picture as it is shown: turned as its EXIF data say, transparency on white.

    Args:
        picture: a path, an open file or its bytes, {"bytes", "path"}, a PIL image, a numpy array
            (H, W) or (H, W, 3 or 4), or a tensor (3, H, W); arrays are uint8, or float in [0, 1].

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture can be read from it.
    """
    if isinstance(picture, dict):
        picture = picture.get("path") if picture.get("bytes") is None else picture["bytes"]
    if isinstance(picture, bytearray | io.IOBase):
        picture = bytes(picture) if isinstance(picture, bytearray) else picture.read()
    if isinstance(picture, Image.Image):
        return to_rgb(_turned(picture))
    if isinstance(picture, str | Path | bytes):
        where = "the given file" if isinstance(picture, bytes) else short(str(picture))
        if isinstance(picture, str) and "://" in picture:
            raise ValueError(f"{where} is an address: download the picture first")
        try:
            with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as file:
                file.load()
                return to_rgb(_turned(file))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise FileNotFoundError(f"no such picture: {where}") from error
        except UnidentifiedImageError as error:
            raise ValueError(f"{where} is no picture of a known format") from error
        except Exception as error:  # decoders raise errors of any kind
            raise ValueError(f"{where} is no readable picture: {short(str(error))}") from error
    if isinstance(picture, np.ndarray | Tensor):
        return to_rgb(Image.fromarray(_pixels(picture)))
    raise ValueError(_no_picture(picture))


def _no_picture(given: Any) -> str:
    return f"a picture is a path, a PIL image or an array, not of type {type(given).__name__}"


def prepared(picture: Any, size: tuple[int, int]) -> Tensor:
    """Return a picture as a model sees it, (3, H, W) uint8.

    Args:
        picture: as :func:`opened` takes it.
        size: as :func:`tauten.data.sizes.resized` takes it.
    """
    pixels = np.asarray(resized(opened(picture), size))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def _turned(picture: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(picture)


def _pixels(array: Any) -> Any:
    """Bring an array to (H, W) or (H, W, C) uint8."""
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = array.float() if array.dtype == torch.bfloat16 else array
        array = (array.permute(1, 2, 0) if array.dim() == 3 else array).numpy()
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        raise ValueError(
            f"an array of shape {shape} is no picture: numpy has (H, W, 3), torch (3, H, W)"
        )
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"pixels are uint8, or float in [0, 1]; got {array.dtype} from {low:g} to {high:g}"
            )
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"pixels are uint8, or float in [0, 1]; got {array.dtype}")
    return np.ascontiguousarray(array)
