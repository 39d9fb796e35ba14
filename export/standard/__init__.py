"""Standard ONNX files that stock onnxruntime runs."""

from mpqdeploy.export.standard.convert import to_standard_onnx

__all__ = ["to_standard_onnx"]
