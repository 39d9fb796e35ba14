"""`certify`: four executors of one network, held against each other.

qonnx's executor is the reference: it is the definition of what the file means. Layer by layer, the
others run on its codes (see `executors`); end to end, each runs freely and the predictions are
compared pair by pair. The compiled library is another package's business: its layers come in as
`LayerAgreement`s, its predictions as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.agreement import Certificate, LayerAgreement, compare_predictions
from mpqdeploy.export.executors import (
    Floats,
    load_model,
    onnxruntime_layers,
    onnxruntime_session,
    torch_layers,
)
from mpqdeploy.export.qonnx_executor import QonnxExecutor, qonnx_reference

Predictor = Callable[[Floats], Floats]
"""From images `[N, C, H, W]` to logits `[N, classes]`."""

REFERENCE = "qonnx"


def certify(
    qonnx: Path,
    *,
    images: Floats,
    net: Any = None,
    standard: Path | None = None,
    layers: Mapping[str, Sequence[LayerAgreement]] | None = None,
    predictors: Mapping[str, Predictor] | None = None,
    test_batches: Iterable[Floats] = (),
    least_rate: float = 0.99,
) -> Certificate:
    """Compare whatever is given with qonnx's executor on `qonnx`.

    `images` `[N, C, H, W]` are for the layers (a few are enough: every element of every layer
    counts). `net` is the Brevitas network that the file came from, `standard` its standard ONNX
    form. `layers` are agreements found elsewhere, by executor. `predictors` (see
    `default_predictors`) run over all `test_batches`; every pair must give the same class for
    `least_rate` of the images. Raises `ModelError` for a file that cannot be read.
    """
    found: dict[str, tuple[LayerAgreement, ...]] = {}
    if net is not None or standard is not None:
        reference = qonnx_reference(qonnx, images)
        if net is not None:
            found["torch"] = reference.compare(torch_layers(net, reference))
        if standard is not None:
            found["onnxruntime"] = reference.compare(onnxruntime_layers(standard, reference))
    for executor, agreements in (layers or {}).items():
        found[executor] = tuple(agreements)
    logits = _run(predictors or {}, test_batches)
    return Certificate(
        reference=REFERENCE,
        samples=len(images),
        layers=found,
        predictions=compare_predictions(logits),
        least_rate=least_rate,
    )


def default_predictors(
    qonnx: Path, *, net: Any = None, standard: Path | None = None
) -> dict[str, Predictor]:
    """Predictors of the executors that this package has, by the names that `certify` uses."""
    predictors: dict[str, Predictor] = {REFERENCE: QonnxExecutor(qonnx).logits}
    if net is not None:
        predictors["torch"] = lambda images: torch_logits(net, images)
    if standard is not None:
        predictors["onnxruntime"] = _onnxruntime(standard)
    return predictors


def torch_logits(net: Any, images: Floats) -> Floats:
    """Logits `[N, classes]` of a network in eval mode, which is left as it was."""
    import torch

    training = net.training
    try:
        with torch.no_grad():
            output = net.eval()(torch.from_numpy(np.ascontiguousarray(images)))
    finally:
        net.train(training)
    logits: Floats = getattr(output, "value", output).numpy()
    return logits


def _onnxruntime(path: Path) -> Predictor:
    """One session for all batches."""
    session = onnxruntime_session(load_model(path))
    entry = session.get_inputs()[0]

    def predict(images: Floats) -> Floats:
        size = entry.shape[0] if isinstance(entry.shape[0], int) else len(images)
        parts = [
            session.run(None, {entry.name: images[start : start + size]})[0]
            for start in range(0, len(images), size)
        ]
        return np.concatenate(parts)

    return predict


def _run(
    predictors: Mapping[str, Predictor], batches: Iterable[Floats]
) -> dict[str, NDArray[np.float32]]:
    collected: dict[str, list[Floats]] = {name: [] for name in predictors}
    for batch in batches:
        for name, predict in predictors.items():
            collected[name].append(predict(batch))
    return {name: np.concatenate(parts) for name, parts in collected.items() if parts}
