"""The model card of a bundle: what it is, how well it does, how to run it, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from mpqdeploy.core import Policy
from mpqdeploy.export.manifest import Manifest, TensorInfo


def model_card(manifest: Manifest, policy: Policy | None, sizes: Mapping[str, int]) -> str:
    """Markdown text; `sizes` are the bundle's large files in bytes. What is unknown is left out."""
    sections = (
        _head(manifest),
        _figures(manifest),
        _precisions(policy),
        _tensors(manifest),
        _usage(manifest, sizes),
        _files(sizes),
        _origin(manifest),
    )
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def _head(manifest: Manifest) -> Iterator[str]:
    needs = manifest.requirements
    yield f"# {manifest.name}"
    yield ""
    yield (
        f"A quantized network compiled for {needs.processor} (target `{needs.target}`): integer "
        "and bit-packed kernels, weights at their own width."
    )
    if needs.features:
        yield f"The CPU needs: {', '.join(needs.features)}."
    if needs.threads > 1:
        yield f"It runs on {needs.threads} threads."


def _figures(manifest: Manifest) -> Iterator[str]:
    rows = list(_figure_rows(manifest))
    if rows:
        yield "## Figures"
        yield ""
        yield "| | |"
        yield "|---|---|"
        yield from (f"| {name} | {value} |" for name, value in rows)


def _figure_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for name, value in manifest.accuracy.items():
        yield f"accuracy ({name})", f"{value:.4f}"
    latency = manifest.latency
    if latency:
        low, high = latency.interval_us
        protocol = latency.protocol
        yield (
            "latency, measured",
            f"{latency.median_us:.1f} µs (95% interval of the median {low:.1f} to {high:.1f}; "
            f"batch {protocol.batch}, {protocol.threads} thread(s), {protocol.samples} samples)",
        )
        yield "measured on", latency.fingerprint.cpu
    for name, value in manifest.costs.items():
        yield name, f"{value:,.0f}"
    certificate = manifest.certificate
    if certificate:
        verdict = "holds" if certificate.holds else "DOES NOT HOLD"
        yield (
            "certificate",
            f"{verdict} ({', '.join(sorted(certificate.layers))} against {certificate.reference})",
        )
        for pair in certificate.predictions:
            yield (
                f"same class, {pair.first} and {pair.second}",
                f"{pair.agreeing} of {pair.samples}",
            )


def _precisions(policy: Policy | None) -> Iterator[str]:
    if policy is None:
        return
    counts = Counter(str(precision) for precision in policy.precisions.values())
    yield "## Precisions (weight bits / activation bits)"
    yield ""
    yield ", ".join(f"{count} × {precision}" for precision, count in counts.most_common())
    yield ""
    yield "| layer | precision |"
    yield "|---|---|"
    yield from (f"| {name} | {precision} |" for name, precision in policy.precisions.items())


def _tensors(manifest: Manifest) -> Iterator[str]:
    yield "## Input and output"
    yield ""
    for tensor in manifest.inputs:
        yield f"- input {_tensor(tensor)}"
        found = tensor.preprocessing
        if found:
            yield (
                f"  from uint8 pixels: (pixel / {found.scale:g} - mean) / std, "
                f"mean {_numbers(found.mean)}, std {_numbers(found.std)}"
            )
    for tensor in manifest.outputs:
        classes = f", classes: {', '.join(tensor.classes)}" if tensor.classes else ""
        yield f"- output {_tensor(tensor)}{classes}"


def _tensor(tensor: TensorInfo) -> str:
    return f"`{tensor.name}`: {tensor.type} {list(tensor.shape)} ({tensor.layout})"


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _usage(manifest: Manifest, sizes: Mapping[str, int]) -> Iterator[str]:
    shape = ", ".join(str(size) for size in manifest.inputs[0].shape[1:])
    yield "## Running it"
    yield ""
    yield "With `mpqdeploy` (numpy and TVM; no torch):"
    yield ""
    yield "```python"
    yield "import mpqdeploy"
    yield ""
    yield 'model = mpqdeploy.load("this/folder")'
    if manifest.inputs[0].preprocessing:
        yield f"logits = model(model.preprocess(images))  # uint8 [N, {shape}]"
    else:
        yield f"logits = model(x)  # float32 [N, {shape}]"
    yield "```"
    if "model.onnx" in sizes:
        yield ""
        yield "`model.onnx` is standard ONNX and runs in stock onnxruntime."


def _files(sizes: Mapping[str, int]) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield "| file | bytes |"
    yield "|---|---|"
    yield from (f"| {name} | {size:,} |" for name, size in sizes.items())


def _origin(manifest: Manifest) -> Iterator[str]:
    yield "## Origin"
    yield ""
    for name, version in manifest.versions.items():
        yield f"- {name} {version}"
    for name, value in manifest.provenance.items():
        if not isinstance(value, Mapping):
            yield f"- {name}: {value}"
    yield ""
    yield "Everything else is in `manifest.json`."
