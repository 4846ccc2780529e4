"""A lease holder's name tells the living from the dead of this machine, and nothing of other machines."""

import os
import subprocess
import sys

from reconciler.adapters import process


def test_this_process_lives_and_an_ended_one_is_dead() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from reconciler.adapters import process; print(process.own_name(), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert not process.is_dead(name)
    assert not process.is_dead(f"{name}/1")
    child.communicate("\n")
    assert process.is_dead(name)
    assert not process.is_dead(process.own_name())


def test_a_recycled_pid_is_another_process() -> None:
    host, pid, start = process.own_name().split(":")
    assert pid == str(os.getpid())
    assert process.is_dead(f"{host}:{pid}:{int(start) + 1}")


def test_nothing_is_known_of_other_machines_or_of_names_of_another_make() -> None:
    assert not process.is_dead("elsewhere:1:1")
    assert not process.is_dead("test")
