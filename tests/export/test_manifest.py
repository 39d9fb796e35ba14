from __future__ import annotations

import json
from typing import Any

import pytest

from mpqdeploy.core import BundleError
from mpqdeploy.export.manifest import Manifest, Requirements, TensorInfo
from tests.export.bundles import REQUIREMENTS, manifest


def _data(made: Manifest | None = None) -> Any:
    return json.loads(json.dumps((made or manifest()).to_json()))


def test_round_trip() -> None:
    full = manifest().with_files({"model.so": "abc"})
    assert Manifest.from_json(_data(full)) == full


def test_plain_compile_has_no_accuracy_policy_or_latency() -> None:
    bare = Manifest(
        name="net",
        inputs=(TensorInfo(name="x", shape=(1, 4), layout="NC"),),
        outputs=(TensorInfo(name="y", shape=(1, 2), layout="NC"),),
        requirements=Requirements(target="host", processor="x86_64"),
        versions={},
    )
    assert Manifest.from_json(_data(bare)) == bare
    assert bare.latency is None
    assert bare.certificate is None


@pytest.mark.parametrize(
    "edit",
    [
        {"accuracy": {"top1": 1.0}},
        {"extra": 1},
        {"files": {"model.so": "0"}},
        {"sha256": "0"},
    ],
)
def test_an_edited_manifest_is_found_out(edit: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="differs from what was shipped"):
        Manifest.from_json({**_data(), **edit})


def test_other_formats_and_other_files() -> None:
    with pytest.raises(BundleError, match="format 99"):
        Manifest.from_json({**_data(), "format": 99})
    for other in ([], {}, {"name": "x"}, "text", None):
        with pytest.raises(BundleError, match="no bundle's manifest"):
            Manifest.from_json(other)


def test_requirements_round_trip() -> None:
    data = json.loads(json.dumps({**vars(REQUIREMENTS)}))
    assert Requirements.from_json(data) == REQUIREMENTS
