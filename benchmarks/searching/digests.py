"""Short names for settings and policies, for the files that keep what they led to."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(content: Any) -> str:
    """Of anything that is JSON, the order of keys aside."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
