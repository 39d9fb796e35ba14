"""Image files as RGB pictures."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

from mpqdeploy.core import DataError

# What Pillow's decoders are seen to raise on damaged files.
_UNDECODABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    struct.error,
    Image.DecompressionBombError,
)


def decoded(path: Path) -> Image.Image:
    """The file's picture in RGB. Raises `DataError` that names it."""
    try:
        with Image.open(path) as source:
            return source.convert("RGB")
    except _UNDECODABLE as error:
        raise DataError(
            f"{path}: cannot be decoded ({error}).", hint="Replace the image or remove it."
        ) from error
