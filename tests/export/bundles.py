"""A bundle for tests; `model.so` may be any file where nobody runs it."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core import Fingerprint, LatencyRecord, Policy, Precision, Preprocessing, Protocol
from mpqdeploy.core.agreement import Certificate, LayerAgreement, PredictionAgreement
from mpqdeploy.export.bundle import write_bundle
from mpqdeploy.export.manifest import Manifest, Requirements, TensorInfo

POLICY = Policy(
    precisions={
        "conv1": Precision(weight_bits=8, act_bits=8),
        "fc": Precision(weight_bits=4, act_bits=8),
    }
)
REQUIREMENTS = Requirements(target="host", processor="x86_64", features=("avx2", "fma"))


def manifest(requirements: Requirements = REQUIREMENTS) -> Manifest:
    """Every field filled."""
    fingerprint = Fingerprint(cpu="Test CPU", features=("avx2",), cores=2, tvm="0", system="Linux")
    layer = LayerAgreement(name="conv1", elements=10, flips=1, errors=0, worst_ulps=1.5)
    pair = PredictionAgreement(first="qonnx", second="torch", samples=100, agreeing=99)
    return Manifest(
        name="test-net",
        inputs=(
            TensorInfo(
                name="input",
                shape=(1, 3, 8, 8),
                layout="NCHW",
                preprocessing=Preprocessing(scale=255.0, mean=(0.5,) * 3, std=(0.25,) * 3),
            ),
        ),
        outputs=(
            TensorInfo(
                name="logits",
                shape=(1, 10),
                layout="NC",
                classes=tuple(f"class {index}" for index in range(10)),
            ),
        ),
        requirements=requirements,
        versions={"mpqdeploy": "0.1.0"},
        accuracy={"top1": 0.9, "float32_top1": 0.92},
        latency=LatencyRecord(
            samples_us=(10.0, 11.0, 12.0), protocol=Protocol(), fingerprint=fingerprint
        ),
        certificate=Certificate(
            reference="qonnx", samples=4, layers={"torch": (layer,)}, predictions=(pair,)
        ),
        costs={"bytes": 1234.0},
        provenance={"seed": 3, "config": {"model": "test"}},
    )


def bundle(parent: Path, *, library: bytes = b"so", made: Manifest | None = None) -> Path:
    """Write a bundle into `parent` and return its folder."""
    sources = parent / "sources"
    sources.mkdir(exist_ok=True)
    for name, content in (("q", b"qonnx"), ("s", b"standard"), ("l", library)):
        (sources / name).write_bytes(content)
    folder = parent / "bundle"
    write_bundle(
        folder,
        made or manifest(),
        qonnx=sources / "q",
        standard=sources / "s",
        library=sources / "l",
        policy=POLICY,
    )
    return folder
