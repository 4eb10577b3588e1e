"""How the process ends: whole, or at once under a thread that nothing can interrupt."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEAVE = """
import atexit, threading
from bot.__main__ import leave
atexit.register(print, "cleaned up")
busy = threading.Event()
threading.Thread(target=busy.wait, daemon=DAEMON).start()
if not DAEMON:
    busy.set()
print("told", end=" ")
leave(3)
"""


@pytest.mark.parametrize(("daemon", "said"), [("True", "told"), ("False", "told cleaned up")])
def test_python_is_not_taken_apart_under_a_thread_that_works_on(daemon: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE.replace("DAEMON", daemon)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (3, said)
