"""A PostgreSQL server of a test's own, on loopback, in a folder that goes with it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER = "tester"


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; Debian keeps them out of PATH. None where there are none."""
    found = shutil.which("pg_ctl")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    places = [Path(found)] if found else debian[-1:]
    return next((p.parent for p in places if (p.parent / "initdb").exists()), None)


@dataclass(frozen=True, kw_only=True)
class Server:
    """`url` is what a study's storage is called."""

    binaries: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def make(self) -> None:
        self._run("initdb", "-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / program, "-D", self.folder / "data", *arguments],
            # The server keeps its output open: a pipe would never end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            cwd=self.folder,
            user=_account(),
            timeout=120,
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program}: {log.read_text() if log.exists() else done}")


@contextmanager
def running(programs: Path) -> Iterator[Server]:
    """A server that is up."""
    folder = Path(tempfile.mkdtemp(prefix="mpqdeploy-pg-", dir="/tmp"))  # a socket's path is short
    account = _account()
    if account is not None:
        os.chown(folder, account, -1)
    server = Server(binaries=programs, folder=folder, port=_free_port())
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> int | None:
    """PostgreSQL refuses to run as root; the package's own user is there where it is installed."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return None


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
