"""`load`: run a bundle with numpy and tvm; nothing of torch, onnx or qonnx is imported."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ModelError, TargetError
from mpqdeploy.core.detection import Detections
from mpqdeploy.export.bundle import LIBRARY, verify_bundle
from mpqdeploy.export.manifest import Manifest, Requirements, TensorInfo
from mpqdeploy.targets.fingerprint import cpu_flags
from mpqdeploy.targets.library import Library

Arrays = Mapping[str, NDArray[Any]]


def load(folder: str | Path) -> Model:
    """Open the bundle `folder`.

    Raises `BundleError` naming a file that is missing, was altered or does not belong, and
    `TargetError` naming a feature that the bundle's code needs and this CPU lacks.
    """
    path = Path(folder)
    manifest = verify_bundle(path)
    _require(manifest.requirements, path)
    return Model(manifest, Library(path / LIBRARY))


class Model:
    """A compiled network. `manifest` says what it takes, how accurate it is and how fast."""

    def __init__(self, manifest: Manifest, library: Library) -> None:
        self.manifest = manifest
        self._library = library

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the first output's channels, or of what a detector finds; empty where the
        bundle has none."""
        decoding = self.manifest.decoding
        return decoding.classes if decoding else self.manifest.outputs[0].classes

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """The first output for the only input: float32 `[N, C, H, W]` to logits `[N, classes]`.

        `x` is normalised (see `preprocess`); N is any number, run in batches of the compiled size,
        the last of them filled up. Raises `ModelError` for another shape or type.
        """
        if len(self.manifest.inputs) != 1:
            names = ", ".join(tensor.name for tensor in self.manifest.inputs)
            raise ModelError(f"the model has the inputs {names}.", hint="Use run({name: array}).")
        results = self.run({self.manifest.inputs[0].name: x})
        return results[self.manifest.outputs[0].name]

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Every output by name. Raises `ModelError` for a missing, unknown or misshapen input."""
        arrays = self._checked(inputs)
        first = self.manifest.inputs[0]
        count, size = len(arrays[first.name]), first.shape[0]
        if any(len(array) != count for array in arrays.values()):
            raise ModelError("the inputs have different batch sizes.", hint="Give N of each.")
        parts = [
            self._library.run({name: a[start : start + size] for name, a in arrays.items()})
            for start in range(0, count, size)
        ]
        return {
            tensor.name: np.concatenate([part[tensor.name] for part in parts])
            if parts
            else np.zeros((0, *tensor.shape[1:]), np.float32)
            for tensor in self.manifest.outputs
        }

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """What a detector finds on one image, uint8 `[H, W, 3]` of any size, in its pixels.

        The image is letterboxed as in training; boxes are decoded and thinned out in numpy by the
        manifest's parameters. Raises `ModelError` for another type or shape, and where the bundle
        is no detector.
        """
        from mpqdeploy.detecting import detect

        return detect(self, image)

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 images `[N, C, H, W]` or `[N, H, W, C]` to what `__call__` takes.

        One image without the leading N gives a batch of one. Raises `ModelError` for another type
        or shape, or where the bundle does not know how its data were normalised.
        """
        entry = self.manifest.inputs[0]
        if entry.preprocessing is None:
            raise ModelError(
                "the bundle does not say how its images were normalised.",
                hint="Normalise them as in training and call the model with float32.",
            )
        array = np.asarray(pixels)
        if array.dtype != np.uint8:
            raise ModelError(
                f"preprocess takes uint8 pixels, not {array.dtype}.",
                hint="Normalised float32 images go to the model itself.",
            )
        batch = array[None] if array.ndim == 3 else array
        channels, height, width = entry.shape[1:]
        if batch.shape[1:] == (height, width, channels) != (channels, height, width):
            batch = batch.transpose(0, 3, 1, 2)
        if batch.shape[1:] != (channels, height, width):
            raise ModelError(
                f"images have shape {list(array.shape)}, the model takes "
                f"[N, {channels}, {height}, {width}] or [N, {height}, {width}, {channels}].",
                hint="Resize or crop them first.",
            )
        return entry.preprocessing.apply(np.ascontiguousarray(batch))

    def _checked(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        known = {tensor.name: tensor for tensor in self.manifest.inputs}
        for name in inputs:
            if name not in known:
                raise ModelError(
                    f"the model has no input {name!r}.", hint=f"Its inputs: {', '.join(known)}."
                )
        for name in known:
            if name not in inputs:
                raise ModelError(f"input {name!r} is missing.", hint="Give one array each.")
        return {name: _checked(known[name], array) for name, array in inputs.items()}


def _checked(tensor: TensorInfo, array: NDArray[Any]) -> NDArray[np.float32]:
    """`array` as float32 of the tensor's shape but for the batch."""
    found = np.asarray(array)
    if found.dtype.kind != "f":
        hint = "Convert uint8 images by model.preprocess(images)."
        raise ModelError(f"input {tensor.name!r} takes float32, not {found.dtype}.", hint=hint)
    if found.ndim != len(tensor.shape) or found.shape[1:] != tensor.shape[1:]:
        wanted = ", ".join(["N", *(str(size) for size in tensor.shape[1:])])
        raise ModelError(
            f"input {tensor.name!r} has shape {list(found.shape)}, the model takes [{wanted}].",
            hint="A single image needs a leading axis: image[None].",
        )
    return found.astype(np.float32, copy=False)


def _require(requirements: Requirements, folder: Path) -> None:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if machine != requirements.processor:
        lacking = f"a {requirements.processor} processor (this one is {machine})"
    else:
        flags = cpu_flags()
        missing = [feature for feature in requirements.features if feature not in flags]
        if not missing:
            return
        lacking = f"the CPU feature {missing[0]}, which this machine lacks"
    raise TargetError(
        f"{folder} needs {lacking}.",
        hint="Compile its model.qonnx.onnx again here: mpqdeploy compile --target host.",
    )
