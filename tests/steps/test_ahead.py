"""Compiling in another process: what comes back, and what happens when it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from mpqdeploy.core import ConfigError, ModelError, Policy, Precision
from mpqdeploy.nn import ModelSpec, sites
from mpqdeploy.steps.ahead import Ahead, finished
from mpqdeploy.steps.drafting import Draft
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.target import load_target

SPEC = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8), options={"width": 4})


def draft(tmp_path: Path, policy: Policy | None = None) -> Draft:
    wide = Policy.uniform(sites(SPEC), Precision(weight_bits=8, act_bits=8))
    return Draft(
        spec=SPEC,
        policy=policy or wide,
        images=np.linspace(0, 1, 8 * 64, dtype=np.float32).reshape(8, *SPEC.image),
        seed=0,
        target=load_target("host"),
        store=f"sqlite:///{tmp_path / 'records.sqlite'}",
    )


@pytest.mark.slow
def test_the_library_comes_from_another_process_and_errors_too(tmp_path: Path) -> None:
    with Ahead() as ahead:
        library = finished(ahead.begin(draft(tmp_path), tmp_path / "net.so"))
        bad = ahead.begin(draft(tmp_path, Policy(precisions={})), tmp_path / "bad.so")
        with pytest.raises(ConfigError, match="no precision is given for site"):
            finished(bad)
    loaded = Library(library)
    assert loaded.inputs[0].shape == (1, 1, 8, 8)
    # Nothing decides between processes: the same draft compiled here computes the same.
    here = Library(draft(tmp_path).compile(tmp_path / "here.so"))
    inputs = loaded.random_inputs()
    assert all((loaded.run(inputs)[n] == here.run(inputs)[n]).all() for n in ("logits",))


@pytest.mark.slow
def test_a_process_that_dies_fails_its_draft_and_no_other(tmp_path: Path) -> None:
    with Ahead() as ahead:
        work = ahead.begin(draft(tmp_path), tmp_path / "first.so")
        (process,) = ahead.processes()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ModelError, match="died"):
            finished(work)
        assert finished(ahead.begin(draft(tmp_path), tmp_path / "second.so")).exists()


@pytest.mark.slow
def test_leaving_the_block_ends_what_nobody_waits_for(tmp_path: Path) -> None:
    with Ahead() as ahead:
        ahead.begin(draft(tmp_path), tmp_path / "net.so")
        (process,) = ahead.processes()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.slow
def test_paused_it_does_nothing_and_goes_on_afterwards(tmp_path: Path) -> None:
    with Ahead() as ahead:
        work = ahead.begin(draft(tmp_path), tmp_path / "net.so")
        (process,) = ahead.processes()
        with ahead.paused():
            before = psutil.Process(process).cpu_times()
            time.sleep(0.5)
            assert psutil.Process(process).status() == psutil.STATUS_STOPPED
            assert psutil.Process(process).cpu_times() == before
            assert not work.done()
        assert finished(work).exists()


@pytest.mark.slow
@pytest.mark.parametrize("paused", [False, True])
def test_it_does_not_outlive_the_process_that_made_it(tmp_path: Path, paused: bool) -> None:
    """Killed without a word, as a machine's memory guard kills; also while a network is timed."""
    script = f"""
import time
from contextlib import nullcontext
from pathlib import Path
from tests.steps.test_ahead import Ahead, draft
if __name__ == "__main__":
    folder = Path({str(tmp_path)!r})
    with Ahead() as ahead:
        ahead.begin(draft(folder), folder / "net.so").result()
        with ahead.paused() if {paused} else nullcontext():
            print(*ahead.processes(), flush=True)
            time.sleep(600)
"""
    file = tmp_path / "maker.py"
    file.write_text(script, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    maker = subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert maker.stdout is not None
    process = int(maker.stdout.readline())
    os.kill(process, 0)  # it is there
    maker.kill()
    maker.wait()
    until = time.monotonic() + 20
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{process}").exists()
