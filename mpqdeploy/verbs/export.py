"""`mpqdeploy export`: QONNX to standard ONNX."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.export.standard import to_standard_onnx
from mpqdeploy.ui import Ui


def export_model(model: Path, out: Path, ui: Ui) -> None:
    """Write `out` whole or not at all. Raises `ModelError` naming what cannot be expressed."""
    to_standard_onnx(model, out)
    size = out.stat().st_size
    ui.result({"model": str(out), "bytes": size})
    ui.say(f"wrote {out}, {size:,} B")
