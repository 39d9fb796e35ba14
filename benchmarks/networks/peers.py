"""The int8 runtimes that people use today, each at its best on this CPU, as argument-free calls.

onnxruntime quantizes the float network by its own tools: statically, in QDQ form, uint8
activations, weights per channel. Which weights suit a CPU differs, so several files are made and
the fastest counts. OpenVINO runs the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import TargetError
from mpqdeploy.export.baseline import int8_baseline
from mpqdeploy.export.executors import load_model, onnxruntime_session

Run = Callable[[], object]
Image = NDArray[np.float32]

# How `int8_baseline` is asked to quantize, by the name in the table.
SETTINGS: Mapping[str, Mapping[str, bool]] = {
    "u8s8": {},
    "u8s8 reduced": {"reduce_range": True},
    "u8u8": {"unsigned_weights": True},
}


def int8_files(source: Path, images: Image, folder: Path) -> Mapping[str, Path]:
    """Quantized files of the float file `source` by setting, written unless they are there."""
    files = {name: folder / f"int8-{name.replace(' ', '-')}.onnx" for name in SETTINGS}
    for name, path in files.items():
        if not path.exists():
            int8_baseline(source, [images], path, **SETTINGS[name])
    return files


def onnxruntime_run(path: Path, image: Image, threads: int) -> Run:
    """Runs `path` on a bound input `[1, C, H, W]`, all graph optimisations on (the default)."""
    opened = onnxruntime_session(load_model(path), threads)
    binding = opened.io_binding()
    binding.bind_cpu_input(opened.get_inputs()[0].name, image)
    binding.bind_output(opened.get_outputs()[0].name)
    return lambda: opened.run_with_iobinding(binding)


def openvino_run(path: Path, image: Image, threads: int) -> Run:
    """Runs `path` on a bound input. Raises `TargetError` where OpenVINO is not installed."""
    try:
        import openvino
    except ImportError:
        raise TargetError(
            "OpenVINO is not installed.", hint="pip install -c constraints.txt -e '.[bench]'"
        ) from None
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # every runtime is pinned alike, from outside
    }
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(image)))
    return lambda: request.infer(share_outputs=True)
