"""Deploy: export one fine-tuned network, compile it, and certify that all executors agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import Policy
from mpqdeploy.core.agreement import Certificate
from mpqdeploy.export.certificate import certify, default_predictors
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.export.standard import to_standard_onnx
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.finetune import load
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.verify import verify_library

if TYPE_CHECKING:
    from torch import nn

QONNX, STANDARD, LIBRARY = "model.qonnx.onnx", "model.onnx", "model.so"
LAYER_IMAGES = 8  # every element of every layer of each counts
COMPILED = "compiled"


def deploy(context: Context, name: str, tuned: Done, *, everywhere: bool) -> Done:
    """Result: `{"policy", "accuracy", "epochs", "compile", "certificate"}`; files: the two ONNX
    forms and the library. The accuracy is the library's own, on the whole test set.

    The certificate always compares all executors layer by layer; only where `everywhere` does each
    of them also run over the whole test set, which qonnx's executor takes its time for.
    """
    inputs = {
        **context.config.part("target", "measure", "data"),
        "target": context.target.key,
        "tuned": tuned,
        "everywhere": everywhere,
    }
    return context.folder.step(
        f"deploy-{name}", inputs, lambda folder: _work(context, name, tuned, everywhere, folder)
    )


def _work(
    context: Context, name: str, tuned: Done, everywhere: bool, folder: Path
) -> dict[str, object]:
    ui = context.ui
    net = load(context, tuned).eval()
    with ui.step(f"export {name}"):
        export_qonnx(net, context.spec.image, folder / QONNX)
        to_standard_onnx(folder / QONNX, folder / STANDARD)
    with ui.step(f"compile {name}"):
        compiled = compile_qonnx(
            folder / QONNX, context.target, folder / LIBRARY, measured=context.measured()
        )
    with ui.step(f"verify {name}"):
        library = Library(folder / LIBRARY)
        certificate, accuracy = _certify(context, net, library, everywhere, folder)
    if not certificate.holds:
        for line in certificate.failures():
            ui.warn(f"{name}: {line}")
    return {
        **tuned.result,
        "accuracy": accuracy,
        "torch_accuracy": tuned.result["accuracy"],
        "compile": compiled.report.to_json(),
        "certificate": certificate.to_json(),
    }


def _certify(
    context: Context, net: nn.Module, library: Library, everywhere: bool, folder: Path
) -> tuple[Certificate, float]:
    """The certificate, and the library's score, from one pass over the test set.

    Executors are compared by the class of an image where there is one; a detector's by layers.
    """
    import torch

    task = context.task
    batches = [(x.numpy(), y.numpy()) for x, y in context.test_batches()]
    images = batches[0][0][:LAYER_IMAGES]
    port = library.inputs[0].name
    layers = verify_library(folder / QONNX, library, [{port: image[None]} for image in images])
    scorer = task.scorer()
    targets = iter([torch.from_numpy(y) for _, y in batches])

    def compiled(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs = _run(library, batch, task.outputs)
        scorer.add(tuple(torch.from_numpy(output) for output in outputs), next(targets))
        return outputs[0]

    others = default_predictors(folder / QONNX, net=net, standard=folder / STANDARD)
    comparable = task.kind == "classification"
    certificate = certify(
        folder / QONNX,
        images=images,
        net=net,
        standard=folder / STANDARD,
        layers={COMPILED: layers},
        predictors={**(others if everywhere and comparable else {}), COMPILED: compiled},
        test_batches=_images(context, batches),
    )
    return certificate, scorer.score()


def _run(
    library: Library, batch: NDArray[np.float32], outputs: Sequence[str]
) -> list[NDArray[np.float32]]:
    """The named outputs, `[N, ...]` each, of a library compiled for batch 1."""
    port = library.inputs[0].name
    rows = [library.run({port: image[None]}) for image in batch]
    return [np.concatenate([row[name] for row in rows]) for name in outputs]


def _images(
    context: Context, batches: list[tuple[NDArray[np.float32], NDArray[np.int64]]]
) -> Iterator[NDArray[np.float32]]:
    with context.ui.task("predictions of all executors", len(batches)) as task:
        for images, _ in batches:
            yield images
            task.advance()


def policy_of(deployed: Done) -> Policy:
    return Policy.from_json(deployed.result["policy"])
