"""Compile the step of cpu_kernels.py with a toy of a model, or load what was compiled before.

numba compiles for types and not for sizes, so what the toy brought about serves every model. It needs no torch; `make` does it
when it sets up.
"""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from bot.settings import ROOT

if TYPE_CHECKING:
    from bot.engine.cpu_kernels import Model

logger = logging.getLogger(__name__)

LONG_S = 2.0
"""Loading takes less."""


def compile_step() -> None:
    """Make the step ready for this processor, once in a process. Raises whatever numba does where it can't, each time."""
    fault = _outcome()
    if fault is not None:
        raise fault


@cache
def _outcome() -> Exception | None:
    """What hinders it. Found out once: to fail takes as long as to succeed."""
    notice = Timer(LONG_S, logger.info, ["compiling the model's step for this processor: half a minute at most, once"])
    notice.daemon = True
    notice.start()
    try:
        _compile()
    except Exception as error:  # noqa: BLE001 - raised to each who asks
        return error
    finally:
        notice.cancel()
    return None


def _compile() -> None:
    """One process at a time: what numba kept while two compiled at once ended every later start by a signal, once."""
    _load_torchs_openmp()
    from bot.engine.cpu_kernels import cache_directory, forget

    directory = cache_directory()
    if directory is None:
        run_toy()
        return
    with FileLock(directory / "cpu_kernels.lock"):
        try:
            run_toy()
        except Exception as error:  # noqa: BLE001 - torn files and full disks: numba has no error of its own for them
            logger.warning("what numba keeps can't be read or written, so it is compiled for this start alone (%s)", error)
            forget()
            run_toy()
            return
        if not _is_sound():
            logger.warning("what numba kept does not run in a new process: it is deleted, and compiled again at the next start")
            forget()


def _load_torchs_openmp() -> None:
    """Have numba's threads and torch's come from the library that torch brings, although numba loads first.

    Else numba asks the system for libgomp.so.1.0.0, and what answers is torch's libgomp.so.1, too. On a Debian 12 with two
    cores the bundled model then told eight stories at 2,300 to 3,000 tokens a second by two threads, the first token after 89
    to 156 ms; by torch's library at 6,800 to 7,800, after 5 to 6 (three starts of each, in turns). What the system's does
    otherwise is not known. Where torch brings none, as on Windows and macOS, all stays as it was.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    package = Path(spec.origin).parent
    for directory in (package / "lib", package.parent / "torch.libs"):
        for library in sorted(directory.glob("libgomp*.so*")):
            with suppress(OSError):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
                return


def _is_sound() -> bool:
    """Whether what was compiled just now, if it was, runs in a process that loads it: a fault there is no exception."""
    from bot.engine.cpu_kernels import token_step

    known: Any = token_step
    if not known.stats.cache_misses:
        return True
    command = [sys.executable, "-c", f"from {__name__} import run_toy; run_toy()"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    return done.returncode == 0


def run_toy() -> None:
    """A step of the toy."""
    from bot.engine.cpu_kernels import token_step

    cache = np.zeros((1, 1, 2, 1, 8, 32), np.float32)
    zero, one = np.zeros(1, np.int64), np.float32(1)
    token_step(_toy(), cache, zero, zero, zero, zero, one, one, False, 1)


def _toy(wide: int = 32) -> Model:
    """One layer of zeros."""
    from bot.engine.cpu_kernels import Model, Norm, Product

    def zeros(*shape: int) -> NDArray[np.float32]:
        return np.zeros(shape, np.float32)

    def product(columns: int, rows: int) -> Product:
        return Product(np.zeros((1, columns, rows), np.int8), zeros(1, columns), zeros(1, columns))

    norm = Norm(zeros(1, wide), zeros(1, wide))
    return Model(
        embedding=zeros(4, wide),
        positions=zeros(8, wide),
        ln_1=norm,
        attn_in=product(3 * wide, wide),
        attn_out=product(wide, wide),
        ln_2=norm,
        mlp_in=product(wide, wide),
        mlp_out=product(wide, wide),
        ln_f=norm,
        head=product(4, wide),
    )
