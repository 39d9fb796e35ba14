"""`Library`: a compiled network, run with numpy arrays. Needs numpy and tvm, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import BundleError, ModelError
from mpqdeploy.targets.kernels.base import Buffer
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Port
from mpqdeploy.targets.threads import Threads

Arrays = dict[str, NDArray[np.float32]]
ALIGNMENT = 64  # bytes; TVM's kAllocAlignment


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """One buffer between two kernels, as `Library.trace` saw it."""

    buffer: Buffer
    array: NDArray[Any]


class Library:
    """A `model.so`, compiled for `threads` threads. `inputs` and `outputs` describe its ports.

    Any thread may call it: each gets workers of its own (`targets.threads`). Raises `BundleError`
    where the file is missing or is no library of this project.
    """

    def __init__(self, path: Path) -> None:
        import tvm
        from tvm import relax

        if not path.is_file():
            raise BundleError(f"{path} does not exist.", hint="Compile the model first.")
        if _cut_short(path):
            raise BundleError(f"{path} is cut short.", hint="Copy it again, or compile it again.")
        try:
            self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
            text = bytes(self._machine["metadata"]().numpy())
        except (RuntimeError, AttributeError, ValueError, OSError) as error:
            raise BundleError(
                f"{path} is not a library that mpqdeploy compiled for this machine "
                f"({str(error).strip().splitlines()[-1]}).",
                hint="Compile the model again.",
            ) from error
        metadata = json.loads(text)
        self.inputs = tuple(_port(data) for data in metadata["inputs"])
        self.outputs = tuple(_port(data) for data in metadata["outputs"])
        self._traced = tuple(_buffer(data) for data in metadata["trace"])
        self.threads = int(metadata.get("threads", 1))
        self._threads = Threads(self.threads)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run on arrays by port name, float32, of the port's shape but for the batch.

        A batch of another size is cut into ones of the size that was compiled; the last one is
        filled up, which costs time and nothing else, since samples do not see each other.
        Raises `ModelError` naming a port that is missing, unknown or of another shape.
        """
        batches = self._batches(inputs)
        parts = [self._run(batch) for batch in batches]
        if batches[0] is inputs:
            return parts[0]
        count = len(next(iter(inputs.values())))
        return {
            port.name: np.concatenate([part[port.name] for part in parts])[:count]
            for port in self.outputs
        }

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self._threads.ready()
        results = self._machine["main"](*self._tensors(inputs))
        return {
            port.name: np.array(np.from_dlpack(result)).reshape(port.shape)
            for port, result in zip(self.outputs, results, strict=True)
        }

    def _batches(self, inputs: Mapping[str, NDArray[Any]]) -> list[Mapping[str, NDArray[Any]]]:
        """`inputs` in batches of the compiled size; as they are where their shapes do not fit,
        for the error that names them."""
        batch = self.inputs[0].shape[0] if self.inputs else 1
        shapes = {port.name: port.shape for port in self.inputs}
        arrays = {name: np.asarray(array) for name, array in inputs.items()}
        counts = {len(array) if array.ndim else 0 for array in arrays.values()}
        fits = all(array.shape[1:] == shapes.get(name, ())[1:] for name, array in arrays.items())
        if counts in (set(), {0}, {batch}) or len(counts) != 1 or not fits:
            return [inputs]
        (count,) = counts
        missing = -count % batch
        filled = {
            name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
            for name, array in arrays.items()
        }
        return [
            {name: array[start : start + batch] for name, array in filled.items()}
            for start in range(0, count, batch)
        ]

    def trace(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[Traced, ...]:
        """Run once with the same kernels, and return every buffer they wrote, in order."""
        self._threads.ready()
        results = self._machine["trace"](*self._tensors(inputs))
        return tuple(
            Traced(buffer=buffer, array=result.numpy())
            for buffer, result in zip(self._traced, results, strict=True)
        )

    def bound(self, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], Any]:
        """A call without arguments that runs the network on fixed inputs, for measuring."""
        function, tensors = self._machine["main"], self._tensors(inputs)
        if self.threads == 1:
            return lambda: function(*tensors)

        def run() -> Any:
            self._threads.ready()
            return function(*tensors)

        return run

    def random_inputs(self, seed: int = 0) -> Arrays:
        """Standard normal arrays of the ports' shapes."""
        rng = np.random.default_rng(seed)
        return {
            port.name: rng.standard_normal(port.shape).astype(np.float32) for port in self.inputs
        }

    def _tensors(self, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        unknown = set(inputs) - {port.name for port in self.inputs}
        if unknown:
            raise ModelError(
                f"the model has no input {sorted(unknown)[0]!r}.",
                hint=f"Its inputs: {', '.join(port.name for port in self.inputs)}.",
            )
        tensors = []
        for port in self.inputs:
            if port.name not in inputs:
                raise ModelError(f"input {port.name!r} is missing.", hint="Give one array a port.")
            array = np.asarray(inputs[port.name], np.float32)
            if array.shape != port.shape:
                raise ModelError(
                    f"input {port.name!r} has shape {list(array.shape)}, "
                    f"the model takes {list(port.shape)}.",
                )
            tensors.append(_aligned(_image(array)))
        return tensors


def _image(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of any rank as `[N, C, H, W]`, as the program has it."""
    if array.ndim == 4:
        return array
    return array.reshape(*array.shape[:2], 1, -1)


def _aligned(array: NDArray[np.float32]) -> Any:
    """A TVM tensor over a copy of `array` at the alignment that compiled code counts on.

    Several times faster than `tvm.runtime.tensor`, which matters for networks of a few
    microseconds.
    """
    import tvm_ffi

    raw = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    copy = raw[start : start + array.nbytes].view(np.float32).reshape(array.shape)
    copy[...] = array
    return tvm_ffi.from_dlpack(copy)


def _cut_short(path: Path) -> bool:
    """Whether an ELF file ends before its section table: loading it would kill the process."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if head[:4] != b"\x7fELF":
        return False
    table, size, count = (
        int.from_bytes(head[start:stop], "little") for start, stop in ((40, 48), (58, 60), (60, 62))
    )
    return path.stat().st_size < table + size * count


def _port(data: Mapping[str, Any]) -> Port:
    return Port(name=data["name"], tensor=data["tensor"], shape=tuple(data["shape"]))


def _buffer(data: Mapping[str, Any]) -> Buffer:
    layout = data["layout"]
    return Buffer(
        tensor=data["tensor"],
        layout=Layout(kind=layout["kind"], padding=tuple(layout["padding"])),
    )
