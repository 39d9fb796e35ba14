"""`RpcDevice`: a machine that runs TVM's RPC server (`python -m tvm.exec.rpc_server`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mpqdeploy.core import Fingerprint, TargetError
from mpqdeploy.targets.devices.base import evaluate


class RpcDevice:
    """A remote machine.

    Its `fingerprint` is given, because TVM's stock server cannot be asked for one: run
    `host_fingerprint` there.
    """

    def __init__(self, host: str, port: int, fingerprint: Fingerprint) -> None:
        from tvm import rpc

        self.name = f"rpc://{host}:{port}"
        self._fingerprint = fingerprint
        try:
            self._session = rpc.connect(host, port)
        except (RuntimeError, OSError) as error:
            raise TargetError(
                f"no device answers at {self.name}.",
                hint="Start `python -m tvm.exec.rpc_server` there, and check address and port.",
            ) from error

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def load(self, library: Path) -> Any:
        # A new name each time: writing over a library that the server has loaded would crash it.
        remote = f"{uuid.uuid4().hex}.so"
        try:
            self._session.upload(str(library), remote)
            return self._session.load_module(remote)
        except (RuntimeError, ValueError, OSError) as error:
            raise TargetError(
                f"{library} is no library that {self.name} can load.",
                hint="Compile it for the target that this device is.",
            ) from error

    def tensor(self, array: NDArray[Any]) -> Any:
        from tvm.runtime import tensor

        return tensor(array, self._session.cpu())

    def time(
        self, module: Any, function: str, args: Sequence[Any], *, inner: int, samples: int
    ) -> tuple[float, ...]:
        cpu = self._session.cpu()
        return evaluate(module, function, cpu, args, inner=inner, samples=samples)
