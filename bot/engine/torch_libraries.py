"""Load torch's libraries ahead of `import torch`, on a thread of its own and without the interpreter's lock.

The import would load them under that lock, 0.4 s in which nothing else runs, and the event loop comes late for everybody.
Loaded before, they are only looked up. Join the thread before anything else is imported: the system loads one library at a
time, and another import would wait for it under the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

LIBRARY = "libtorch_cpu"
"""All others are small, or load with it."""


def load_ahead() -> Thread | None:
    """Begin; None where there is nothing to gain. Nothing depends on it: what fails here is loaded, or fails, in the import."""
    if os.name != "posix":
        return None
    torch = find_spec("torch")
    folder = Path(torch.origin).parent / "lib" if torch is not None and torch.origin else None
    if folder is None or any(folder.glob("libtorch_cuda.*")):  # the import finds CUDA's libraries first, in an order of its own
        return None
    library = next(folder.glob(f"{LIBRARY}.*"), None)
    if library is None:
        return None
    thread = Thread(target=_load, args=(library,), name="torch's libraries", daemon=True)
    thread.start()
    return thread


def _load(library: Path) -> None:
    # ctypes.CDLL(library) keeps the lock; a function that it calls does not
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    load(os.fsencode(library), os.RTLD_NOW)
