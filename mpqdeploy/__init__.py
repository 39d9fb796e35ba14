"""mpqdeploy: mixed-precision networks that meet a latency budget measured on the device."""

from __future__ import annotations

__version__ = "0.1.0"
