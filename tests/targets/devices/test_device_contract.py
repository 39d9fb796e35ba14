"""What every device must do. A new one is added to `device` below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.core import Fingerprint, TargetError
from mpqdeploy.targets.devices import Device, LocalDevice, RpcDevice
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.target import load_target
from tests.targets.fakes import scale_library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scale_library(tmp_path_factory.mktemp("library") / "scale.so")


@pytest.fixture(scope="module", params=["local", pytest.param("rpc", marks=[pytest.mark.device])])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "local":
        yield LocalDevice(load_target("host"))
        return
    from tvm import rpc

    server = rpc.Server("127.0.0.1", silent=True)
    try:
        yield RpcDevice("127.0.0.1", server.port, host_fingerprint())
    finally:
        server.terminate()


def test_tensor_round_trip(device: Device) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    copy = device.tensor(array)
    assert np.array_equal(copy.numpy(), array)
    array[:] = 0
    assert copy.numpy().any()


def test_loaded_function_computes(device: Device, library: Path) -> None:
    module = device.load(library)
    x, y = (device.tensor(np.full(256, value, np.float32)) for value in (3, 0))
    module["scale"](x, y)
    assert np.array_equal(y.numpy(), np.full(256, 6, np.float32))


def test_time_gives_as_many_positive_samples_as_asked(device: Device, library: Path) -> None:
    module = device.load(library)
    args = [device.tensor(np.ones(256, np.float32)) for _ in range(2)]
    samples = device.time(module, "scale", args, inner=50, samples=4)
    assert len(samples) == 4
    assert all(0 < sample < 1e5 for sample in samples)


def test_a_file_that_is_no_library_is_a_user_error(device: Device, tmp_path: Path) -> None:
    bad = tmp_path / "bad.so"
    bad.write_bytes(b"not an ELF file")
    with pytest.raises(TargetError, match=r"bad\.so"):
        device.load(bad)


def test_device_says_who_it_is(device: Device) -> None:
    assert device.name
    assert isinstance(device.fingerprint, Fingerprint)
