"""mpqdeploy: mixed-precision networks that meet a latency budget measured on the device.

    model = mpqdeploy.load("bundle")
    logits = model(x)  # numpy in, numpy out

Importing this imports neither torch nor tvm; both load when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpqdeploy.loading import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load"):
        from mpqdeploy import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'mpqdeploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
