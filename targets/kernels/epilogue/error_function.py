"""The error function, of float vectors: TVM has an operator, and no code of LLVM's for it."""

from __future__ import annotations

from typing import Any

from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.kernels.epilogue.vectors import real

# x P(x^2) / Q(x^2), highest power first: the rational function that Eigen and XLA use as well.
# Beyond the largest argument the function is 1 in float32, but for one rounding.
LARGEST = 3.925
P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def erf(x: Any, lanes: int) -> Any:
    """Within 8 ulps of the function's own value, but for denormal numbers."""
    x = T.bind(_within(x, LARGEST, lanes))
    square = T.bind(x * x)
    quotient = x * _polynomial(P, square, lanes) / _polynomial(Q, square, lanes)
    return _within(quotient, 1.0, lanes)


def _within(x: Any, limit: float, lanes: int) -> Any:
    return T.max(T.min(x, real(limit, lanes)), real(-limit, lanes))


def _polynomial(coefficients: tuple[float, ...], x: Any, lanes: int) -> Any:
    total = real(coefficients[0], lanes)
    for coefficient in coefficients[1:]:
        total = total * x + real(coefficient, lanes)
    return total
