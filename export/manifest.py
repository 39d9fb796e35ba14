"""`Manifest`: what a bundle says about itself, in plain Python: reading it needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mpqdeploy.core import BundleError, LatencyRecord, Preprocessing
from mpqdeploy.core.agreement import Certificate
from mpqdeploy.core.detection import Decoding

FORMAT = 1
_DIGEST = "sha256"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output as the user sees it; `layout` names the axes ("NCHW", "NC").

    `classes` are the names of an output's channels; `preprocessing` is how pixels become an input.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    type: str = "float32"
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        preprocessing = self.preprocessing.to_json() if self.preprocessing else None
        return {**vars(self), "shape": list(self.shape), "preprocessing": preprocessing}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorInfo:
        found = data["preprocessing"]
        fields = {
            **data,
            "shape": tuple(data["shape"]),
            "classes": tuple(data["classes"]),
            "preprocessing": Preprocessing.from_json(found) if found else None,
        }
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a machine needs to run `model.so`: `features` as /proc/cpuinfo spells them.

    `threads` is how many the code was compiled for; with fewer processors it is right, and slow.
    """

    target: str
    processor: str
    features: tuple[str, ...] = ()
    threads: int = 1

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Requirements:
        return cls(**{**data, "features": tuple(data["features"])})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything but the weights. What only a search knows stays empty for `mpqdeploy compile`.

    `decoding` is how a detector's outputs become boxes, None for other networks. `accuracy` and
    `costs` map a name ("top1", "float32_top1"; "bytes", "bops") to a number; `provenance` is the
    configuration and the seed that the network came from; `compilation` the compile report; `files`
    the sha256 of every other file of the bundle.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    requirements: Requirements
    versions: Mapping[str, str]
    decoding: Decoding | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    latency: LatencyRecord | None = None
    certificate: Certificate | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    compilation: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def with_files(self, files: Mapping[str, str]) -> Manifest:
        return replace(self, files=dict(files))

    def to_json(self) -> dict[str, Any]:
        """JSON data, closed by its own sha256, so that an edited manifest is found out too."""
        body = {
            "format": FORMAT,
            **vars(self),
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "requirements": asdict(self.requirements),
            "decoding": self.decoding.to_json() if self.decoding else None,
            "latency": self.latency.to_json() if self.latency else None,
            "certificate": self.certificate.to_json() if self.certificate else None,
        }
        return {**body, _DIGEST: _digest(body)}

    @classmethod
    def from_json(cls, data: Any) -> Manifest:
        """Raises `BundleError` for another format, an edited or an incomplete manifest."""
        if not isinstance(data, dict) or "format" not in data:
            raise BundleError("manifest.json is no bundle's manifest.", hint=_AGAIN)
        if data["format"] != FORMAT:
            raise BundleError(
                f"manifest.json has format {data['format']!r}, this version reads {FORMAT}.",
                hint="Use the version of mpqdeploy that the manifest names, or build it again.",
            )
        body = {key: value for key, value in data.items() if key != _DIGEST}
        if data.get(_DIGEST) != _digest(body):
            raise BundleError("manifest.json differs from what was shipped.", hint=_AGAIN)
        try:
            return cls._read(body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"manifest.json is incomplete ({error}).", hint=_AGAIN) from error

    @classmethod
    def _read(cls, body: Mapping[str, Any]) -> Manifest:
        latency, certificate = body["latency"], body["certificate"]
        decoding = body["decoding"]
        fields = {
            **body,
            "inputs": tuple(TensorInfo.from_json(tensor) for tensor in body["inputs"]),
            "outputs": tuple(TensorInfo.from_json(tensor) for tensor in body["outputs"]),
            "requirements": Requirements.from_json(body["requirements"]),
            "decoding": Decoding.from_json(decoding) if decoding else None,
            "latency": LatencyRecord.from_json(latency) if latency else None,
            "certificate": Certificate.from_json(certificate) if certificate else None,
        }
        del fields["format"]
        return cls(**fields)


_AGAIN = "Copy the bundle again, or build it again."


def _digest(body: Mapping[str, Any]) -> str:
    """sha256 of the JSON in one canonical spelling."""
    # Through JSON once, so that tuples and lists, and keys of any type, are spelled alike.
    plain = json.loads(json.dumps(body))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
