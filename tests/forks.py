"""Processes that start at once: the imports are done in one process, which forks on demand.

Importing torch, Brevitas and TVM takes longer than a whole run of a tiny network; a test that
kills and restarts runs would spend its time there. `Forks` starts `python -m tests.forks` once,
and every run is a fork of it: a real process of its own, which can be killed like any other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """Exit code (negative: the signal that ended it), and what the process wrote."""

    code: int
    out: str
    err: str


class Forks:
    """Runs `mpqdeploy ARGUMENTS` in forked processes, one at a time."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self._server.stdin is not None:
            self._server.stdin.close()
        self._server.wait(30)

    def run(
        self,
        *arguments: str,
        folder: Path,
        stop: signal.Signals | None = None,
        when: Callable[[], bool] = lambda: False,
        delay: float = 0.0,
        timeout: float = 300.0,
    ) -> Ended:
        """Run to the end; or send `stop` as soon as `when()` is true and `delay` seconds passed.

        `folder` takes the output's files.
        """
        out, err = folder / "stdout", folder / "stderr"
        self._send({"arguments": arguments, "out": str(out), "err": str(err)})
        pid = self._receive()["pid"]
        if stop is not None:
            limit = time.monotonic() + timeout
            while not when() and time.monotonic() < limit and _lives(pid):
                time.sleep(0.002)
            time.sleep(delay)
            if _lives(pid):
                os.kill(pid, stop)
        self._send({})
        code = self._receive()["code"]
        return Ended(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def _send(self, message: dict[str, Any]) -> None:
        if self._server.stdin is None:
            raise RuntimeError("the server has no input")
        self._server.stdin.write(json.dumps(message) + "\n")
        self._server.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        if self._server.stdout is None:
            raise RuntimeError("the server has no output")
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the server that forks has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _lives(pid: int) -> bool:
    """False once it has ended, also where its parent has not asked for the exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _serve() -> None:
    """Read requests from stdin: arguments to fork with, then an empty one to wait for the end."""
    import onnxruntime  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import qonnx.core.onnx_exec  # noqa: F401

    import mpqdeploy.pipeline
    import mpqdeploy.targets.kernels  # noqa: F401

    pid = 0
    for line in sys.stdin:
        request = json.loads(line)
        if request:
            pid = os.fork()
            if pid == 0:
                _child(request)
            print(json.dumps({"pid": pid}), flush=True)
        else:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(json.dumps({"code": code}), flush=True)


def _child(request: dict[str, Any]) -> None:
    """What `mpqdeploy` does, with output to files; never returns."""
    from mpqdeploy import cli

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], flags, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: int = 1
    try:
        cli.main(request["arguments"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - a process that ends with a traceback ends with 1
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
