"""Which workers are known to be dead, and which only silent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from mpqdeploy.search.bomp import holder
from mpqdeploy.search.bomp.holder import Holder, holder_from_json


def test_this_process_lives_also_after_a_round_trip() -> None:
    here = Holder.here()
    assert here.lives()
    assert holder_from_json(here.to_json()) == here
    assert Holder.here().worker != here.worker


def test_a_process_that_ended_is_dead_and_so_is_one_whose_id_was_given_again() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert replace(Holder.here(), process=child.pid).lives() is False
    assert replace(Holder.here(), started=Holder.here().started - 60).lives() is False


def test_a_killed_process_is_dead_before_its_parent_asks() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = holder._started(child.pid)
    held = replace(Holder.here(), process=child.pid, started=started)
    assert held.lives()
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert held.lives() is False
    child.wait()


def test_nothing_is_known_of_another_place() -> None:
    assert replace(Holder.here(), place="another machine").lives() is None


def test_the_start_is_in_the_order_of_the_processes() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert holder._started(child.pid) >= Holder.here().started
    child.communicate(b"\n")
