"""A summary and a report's material made by hand."""

from __future__ import annotations

import numpy as np

from mpqdeploy.core import (
    Budget,
    CostTable,
    Fingerprint,
    LatencyRecord,
    Metric,
    Policy,
    Precision,
    Protocol,
)
from mpqdeploy.core.agreement import Certificate, LayerAgreement, PredictionAgreement
from mpqdeploy.report.render import Material
from mpqdeploy.results import Round, Row, Summary
from tests.tracking.epochs import epoch

WIDE, NARROW = Precision(weight_bits=8, act_bits=8), Precision(weight_bits=2, act_bits=2)
POLICY = Policy(precisions={"conv1": WIDE, "conv2": NARROW})
MACHINE = Fingerprint(
    cpu="Some <CPU> & more", features=("avx2",), cores=2, tvm="0.27", system="Linux"
)


def record(us: float) -> LatencyRecord:
    return LatencyRecord(
        samples_us=tuple((us * np.linspace(0.95, 1.05, 30)).tolist()),
        protocol=Protocol(),
        fingerprint=MACHINE,
    )


def row(name: str, *, us: float = 10.0, policy: bool = True) -> Row:
    return Row(
        name=name,
        runtime="mpqdeploy" if policy else "onnxruntime",
        accuracy=0.9375,
        latency=record(us),
        bytes=2048.0,
        bops=3e6,
        epochs=3,
        policy=POLICY if policy else None,
    )


def turn(name: str, us: float, index: int = 0) -> Round:
    return Round(
        index=index,
        name=name,
        predicted_us=0.9 * us,
        measured=record(us),
        search_limit_us=20.0 if index else 0.0,
        offset_us=1.5,
        factors={Precision.parse("8/8"): 0.97, Precision.parse("1/1"): 1.04},
        scale=1.25,
        moves=index,
        policy=POLICY,
    )


def summary(
    *, limit_us: float = 20.0, limit_bytes: float = 4096.0, title: str = "net on images"
) -> Summary:
    limits: tuple[tuple[Metric, float], ...] = (("latency", limit_us), ("bytes", limit_bytes))
    return Summary(
        title=title,
        budgets=tuple(Budget(metric=metric, limit=limit) for metric, limit in limits),
        loop_budgets=tuple(Budget(metric=metric, limit=1.1 * limit) for metric, limit in limits),
        rows=(row("float32", us=40.0, policy=False), row("uniform 8/8", us=14.0), row("searched")),
        rounds=(turn("uniform 8/8", 11.0), turn("round 0", 9.0, 1), turn("shipped 1", 10.0, 2)),
        bundle="runs/net/bundle",
        report="runs/net/report.html",
        seconds={"profile": 12.25, "search-1": 3.5},
    )


def material(*, errors: int = 0, note: str = "conv2 leaves out 1/1.") -> Material:
    layer = LayerAgreement(
        name="conv1_out", elements=12345, flips=2, errors=errors, worst_ulps=0.25
    )
    costs = {"conv1": {WIDE: 4.0, NARROW: 2.0}, "conv2": {WIDE: 3.0, NARROW: 1.0}}
    return Material(
        table=CostTable(metric="latency", unit="us", entries=costs, offset=1.0, scale=2.0),
        history=[epoch(1), epoch(2, round_=1)],
        certificate=Certificate(
            reference="qonnx",
            samples=8,
            layers={"compiled": (layer,)},
            predictions=(
                PredictionAgreement(first="torch", second="compiled", samples=400, agreeing=399),
            ),
        ),
        kernels=[
            {
                "name": "step_0",
                "kernel": "dot-vnni",
                "precision": "8/8",
                "schedule": {"columns": 4, "rows": 2},
                "measured": True,
                "weights": 4608,
                "constant_bytes": 5120,
            }
        ],
        notes=[note],
        machine={"CPU": MACHINE.cpu, "seed": "0"},
        config="model: {name: net}\nseed: 0\n",
    )
