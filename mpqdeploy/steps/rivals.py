"""Rivals: the float network in onnxruntime, as it is and quantized by onnxruntime's own tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpqdeploy.export.baseline import float_onnx, int8_baseline
from mpqdeploy.export.executors import load_model, onnxruntime_session
from mpqdeploy.nn import build_float, load_checkpoint
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context

FLOAT, INT8 = "float.onnx", "int8.onnx"
CALIBRATION_BATCHES = 4


def rivals(context: Context, floating: Done) -> Done:
    """Result: `{"accuracy": {file: score}}`; files `float.onnx` and `int8.onnx`."""
    inputs = {**context.config.part("model", "data", "seed"), "float": floating}

    def work(folder: Path) -> dict[str, Any]:
        with context.ui.step("onnxruntime baselines"):
            net = build_float(context.spec)
            load_checkpoint(net, floating.folder / "float.pt")
            float_onnx(net, context.spec.image, folder / FLOAT)
            images = [x.numpy() for x in context.training_images(CALIBRATION_BATCHES)]
            int8_baseline(folder / FLOAT, images, folder / INT8)
            return {"accuracy": {n: _accuracy(context, folder / n) for n in (FLOAT, INT8)}}

    return context.folder.step("rivals", inputs, work)


def session(path: Path, threads: int) -> Any:
    """An onnxruntime session on as many threads as the compiled networks get."""
    return onnxruntime_session(load_model(path), threads)


def bound(path: Path, image: tuple[int, int, int], threads: int) -> Callable[[], object]:
    """A call without arguments that runs the file on a bound input, for measuring."""
    import numpy as np

    opened = session(path, threads)
    entry = opened.get_inputs()[0].name
    binding = opened.io_binding()
    array = np.random.default_rng(0).standard_normal((1, *image)).astype(np.float32)
    binding.bind_cpu_input(entry, array)
    for output in opened.get_outputs():
        binding.bind_output(output.name)

    def run() -> None:
        opened.run_with_iobinding(binding)

    return run


def _accuracy(context: Context, path: Path) -> float:
    import torch

    opened = session(path, 0)
    entry = opened.get_inputs()[0].name
    scorer = context.task.scorer()
    for images, targets in context.test_batches():
        for image, target in zip(images.numpy(), targets, strict=True):
            outputs = opened.run(list(context.task.outputs), {entry: image[None]})
            scorer.add(tuple(torch.from_numpy(output) for output in outputs), target[None])
    return scorer.score()
