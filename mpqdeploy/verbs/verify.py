"""`mpqdeploy verify`: a bundle against the QONNX file that it should compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mpqdeploy.core import ModelError
from mpqdeploy.core.agreement import Certificate
from mpqdeploy.export.bundle import LIBRARY, STANDARD
from mpqdeploy.export.certificate import Predictor, certify, default_predictors
from mpqdeploy.loading import load
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.verify import verify_library
from mpqdeploy.ui import Ui

_BATCH = 64


def verify_bundle(model: Path, bundle: Path, samples: int, ui: Ui) -> bool:
    """Whether the bundle computes what `model` says, on `samples` standard normal inputs.

    Layer by layer, the compiled library and onnxruntime (on the bundle's standard ONNX) run on the
    codes of qonnx's executor; end to end, each runs freely, and classes have to agree where no code
    lies on a threshold. Raises `BundleError` for an altered bundle, `ModelError` for another
    network's file, `TargetError` where the bundle does not run.
    """
    shipped = load(bundle)
    if len(shipped.manifest.inputs) != 1:
        raise ModelError(
            f"{bundle} has {len(shipped.manifest.inputs)} inputs.",
            hint="Only networks of one input can be verified.",
        )
    entry, output = shipped.manifest.inputs[0], shipped.manifest.outputs[0]
    library = Library(bundle / LIBRARY)
    batch = entry.shape[0]
    count = -(-samples // batch) * batch
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, *entry.shape[1:])).astype(np.float32)
    with ui.step(f"comparing on {count} inputs"):
        standard = bundle / STANDARD if (bundle / STANDARD).is_file() else None
        layers = verify_library(
            model,
            library,
            [{entry.name: images[start : start + batch]} for start in range(0, count, batch)],
        )
        predictors: dict[str, Predictor] = {}
        if len(output.shape) == 2:  # else there are no classes to agree on
            predictors = default_predictors(model, standard=standard)
            predictors["library"] = lambda part: shipped.run({entry.name: part})[output.name]
        certificate = certify(
            model,
            images=images[:batch],
            standard=standard,
            layers={"library": layers},
            predictors=predictors,
            test_batches=[
                images[at : at + _BATCH * batch] for at in range(0, count, _BATCH * batch)
            ],
        )
    if any(certificate.flips(executor) for executor in certificate.layers):
        # Noise is classified by a hair: behind a code on a threshold the class may differ.
        certificate = replace(certificate, least_rate=0.0)
    ui.result(certificate.to_json())
    show_certificate(certificate, ui)
    return certificate.holds


def show_certificate(certificate: Certificate, ui: Ui) -> None:
    """The certificate's table, and a line for whatever does not hold."""
    rows = [
        [
            executor,
            str(len(layers)),
            f"{sum(layer.elements for layer in layers):,}",
            str(certificate.flips(executor)),
            str(sum(layer.errors for layer in layers)),
        ]
        for executor, layers in certificate.layers.items()
    ]
    title = f"Codes on identical inputs, against {certificate.reference}"
    ui.table(title, ["executor", "layers", "codes", "flips", "errors"], rows)
    for pair in certificate.predictions:
        ui.say(f"{pair.first} and {pair.second}: same class {pair.agreeing} of {pair.samples}")
    for failure in certificate.failures():
        ui.say(failure)
    ui.say("the certificate holds" if certificate.holds else "the certificate DOES NOT HOLD")
