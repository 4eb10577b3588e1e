"""The compiled step computes what torch does, row by row, and a host without a compiler does without it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from tiny_gpt2 import cpu_forward
from torch.nn.functional import gelu, layer_norm
from transformers import GPT2Config, GPT2LMHeadModel

from bot.engine import cpu_compile, cpu_kernels, cpu_step
from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import Int8Linear
from bot.engine.forward import Part


def forward_of(model_dir: Path, slots: int = 9) -> CpuForward:
    return cpu_forward(model_dir, Int8Linear, slots)


@pytest.fixture
def by_torch(pristine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> CpuForward:
    """What a host has where nothing can be compiled."""

    def forbidden() -> None:
        raise OSError("no executable memory")

    with monkeypatch.context() as patched:
        patched.setattr(cpu_step, "compile_step", forbidden)
        forward = forward_of(pristine)
    assert "no executable memory" in caplog.text
    return forward


def test_a_host_where_nothing_can_be_compiled_writes_by_torch(by_torch: CpuForward, pristine: Path) -> None:
    compiled = forward_of(pristine)
    assert by_torch.steps_by == "torch"
    assert compiled.steps_by == f"numba {numba.__version__}"
    ids = [(7 * n) % 300 for n in range(40)]
    for forward in (by_torch, compiled):
        forward([Part(0, 0, ids[:20])])
    for at in range(20, 40):
        ours, torchs = (forward([Part(0, at, ids[at : at + 1])])[0] for forward in (compiled, by_torch))
        assert (ours - torchs).std() < 0.005 * torchs.std()


@pytest.mark.parametrize("texts", range(1, 10))
@pytest.mark.parametrize("wide", [32, 96, 256])
def test_sums_of_integers_are_exact_for_any_number_of_texts(texts: int, wide: int) -> None:
    draw = np.random.default_rng(texts * wide)
    steps = draw.integers(-127, 128, (texts, wide)).astype(np.int16)
    weight = draw.integers(-127, 128, (40, wide)).astype(np.int8)
    steps[0], weight[0] = 127, -127  # the largest sums there are
    sizes, scale, bias = (draw.random(n, dtype=np.float32) for n in (texts, 40, 40))
    out = np.zeros((texts, 40), np.float32)
    cpu_kernels.some_outputs(steps, sizes, weight, scale, bias, 0, 40, out)
    sums = steps.astype(np.int64) @ weight.astype(np.int64).T
    expected = sums.astype(np.float32) * (sizes[:, None] * scale) + bias
    np.testing.assert_array_equal(out, expected)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one core")
def test_the_number_of_threads_changes_no_bit(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_step, "_threads", lambda: numba.config.NUMBA_NUM_THREADS)
    parts = [Part(slot, at, [(slot * 7 + at) % 300]) for slot in range(9) for at in [slot]]
    several = step_by_step(forward_of(pristine), parts)
    monkeypatch.setattr(cpu_step, "_threads", lambda: 1)
    assert torch.equal(step_by_step(forward_of(pristine), parts), several)


def step_by_step(forward: CpuForward, parts: list[Part]) -> torch.Tensor:
    for part in parts:
        for at in range(part.start):
            forward([Part(part.slot, at, [at])])
    return forward(parts)


def test_an_uneven_split_among_threads_leaves_no_output_out() -> None:
    steps = np.ones((1, 32), np.int16)
    out = np.zeros((1, 45), np.float32)
    ones = np.ones(45, np.float32)
    weight = np.ones((45, 32), np.int8)
    for parts in (1, 2, 4, 7, 50):
        out[:] = 0
        cpu_kernels.outputs_in_parts(steps, ones[:1], weight, ones, ones, parts, out)
        assert (out == 33).all()


def test_nine_texts_at_once_are_nine_texts_alone(pristine: Path) -> None:
    forward = forward_of(pristine)
    parts = [Part(slot, 0, [slot]) for slot in range(9)]
    together = forward(parts)
    assert all(torch.equal(forward([part])[0], row) for part, row in zip(parts, together, strict=True))


def test_functions_are_torchs() -> None:
    x = torch.cat([torch.linspace(-12, 12, 999), torch.tensor([0.0, -80.0, 80.0])])
    tanh, erf = x.numpy().copy(), x.numpy().copy()
    cpu_kernels.gelu(tanh)
    cpu_kernels.exact_gelu(erf)
    torch.testing.assert_close(torch.from_numpy(tanh), gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.from_numpy(erf), gelu(x), rtol=1e-5, atol=1e-6)
    powers = torch.linspace(-85, 85, 1001)
    ours = powers.numpy().copy()
    cpu_kernels.exponentials(ours)
    torch.testing.assert_close(torch.from_numpy(ours).double(), powers.double().exp(), rtol=3e-7, atol=0)
    gain, bias, row = torch.randn(3, 96, generator=torch.Generator().manual_seed(1))
    normal = np.empty(96, np.float32)
    cpu_kernels.normalise(row.numpy(), gain.numpy(), bias.numpy(), np.float32(1e-5), normal)
    torch.testing.assert_close(torch.from_numpy(normal), layer_norm(row, (96,), gain, bias), rtol=1e-5, atol=1e-5)


def test_numbers_that_are_none_do_not_become_some(pristine: Path) -> None:
    """The draw tells them, and ends the one text; another in the same pass does not notice."""
    forward = forward_of(pristine)
    fresh = forward([Part(1, 0, (5,))])
    weights = forward._step._model
    weights.embedding[7, 3] = np.nan
    first, second = forward([Part(0, 0, (7,)), Part(1, 0, (5,))])
    assert first.isnan().all()
    assert torch.equal(second, fresh[0])
    weights.embedding[7, 3] = np.inf
    assert not forward([Part(0, 0, (7,))]).isfinite().any()


def test_the_exact_gelu_is_taken_where_config_asks_for_it(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=96, n_positions=16, n_embd=64, n_layer=2, n_head=2, activation_function="gelu")
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_fc.weight.mul_(20)  # so that the two functions differ by more than int8 does
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        wanted = model(torch.tensor([[3]])).logits[0, -1]
    logits = forward_of(tmp_path)([Part(0, 0, (3,))])[0]
    assert (logits - wanted).std() < 0.03 * wanted.std()


NO_DIRECTORY = """
import logging, sys
logging.basicConfig(stream=sys.stdout)
from numba.core import caching
caching.CacheImpl._locator_classes = []
import numpy
from bot.engine import cpu_kernels
cpu_kernels.gelu(numpy.ones(8, "f"))
cpu_kernels.forget()
print(cpu_kernels.cache_directory(), len(cpu_kernels.gelu.signatures))
"""


def test_where_nothing_can_be_kept_it_is_compiled_at_each_start_and_the_log_says_so_once() -> None:
    *said, last = in_a_new_process(NO_DIRECTORY).splitlines()
    assert len([line for line in said if "NUMBA_CACHE_DIR" in line]) == 1
    assert last == "None 1"


# the step itself takes a quarter of a minute to compile, so one function of it stands for it here
AS_GELU = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
import numpy
from bot.engine import cpu_compile, cpu_kernels
cpu_kernels.token_step = cpu_kernels.gelu
cpu_compile.run_toy = lambda: cpu_kernels.gelu(numpy.ones(8, "f"))
cpu_compile._is_sound = lambda: SOUND
cpu_compile.compile_step()
print(sum(cpu_kernels.gelu.stats.cache_hits.values()), len(cpu_kernels.gelu.signatures))
"""


@pytest.mark.parametrize("torn", ["*.nbi", "*.nbc"])
def test_what_is_torn_is_deleted_and_made_again_at_the_next_start(tmp_path: Path, torn: str) -> None:
    def start() -> list[str]:
        return in_a_new_process(AS_GELU.replace("SOUND", "True"), NUMBA_CACHE_DIR=str(tmp_path)).splitlines()

    assert start() == ["0 1"]
    for file in tmp_path.rglob(f"cpu_kernels.gelu{torn}"):
        file.write_bytes(b"")
    said, counts = start()
    assert "can't be read or written" in said
    assert counts == "0 1"
    assert start() == ["0 1"]
    assert start() == ["1 1"]


def test_what_does_not_run_in_a_new_process_is_not_kept(tmp_path: Path) -> None:
    said, counts = in_a_new_process(AS_GELU.replace("SOUND", "False"), NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    assert "does not run in a new process" in said
    assert counts == "0 1"
    assert not list(tmp_path.rglob("cpu_kernels.*.nb?"))


def test_a_new_process_that_ends_by_a_signal_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_compile.compile_step()
    monkeypatch.setitem(cpu_kernels.token_step.stats.cache_misses, "a signature", 1)
    assert cpu_compile._is_sound()
    monkeypatch.setattr(cpu_compile, "__name__", "os; os.abort(); from bot.engine.cpu_compile")
    assert not cpu_compile._is_sound()


IMPOSSIBLE = """
from bot.engine import cpu_compile, cpu_kernels
cpu_kernels.forget = lambda: None
calls = []
def never():
    calls.append(1)
    raise OSError("no executable memory")
cpu_compile.run_toy = never
for _ in range(3):
    try:
        cpu_compile.compile_step()
    except OSError as error:
        print(error, len(calls))
"""


def test_a_host_that_can_not_is_told_so_at_each_call_and_tried_no_more() -> None:
    assert in_a_new_process(IMPOSSIBLE).splitlines() == ["no executable memory 2"] * 3


def test_fewer_slots_are_taken_where_memory_is_refused(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = CpuForward.resize

    def little(forward: CpuForward, slots: int) -> None:
        if slots > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        real(forward, slots)

    monkeypatch.setattr(CpuForward, "resize", little)
    assert forward_of(pristine, slots=9).slots == 2
    assert "at most 2" in caplog.text


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this machine has one core")
@pytest.mark.parametrize("width", [8, 20, 64])
def test_attention_to_a_long_text_is_the_same_however_it_is_split(width: int) -> None:
    draw = np.random.default_rng(width)
    heads, length = 3, 200
    scale = np.float32(0.3)
    for position in range(0, length, 13):
        kept = draw.standard_normal((2, 2, heads, length, width)).astype(np.float32)
        qkv = draw.standard_normal((2, 3 * heads * width)).astype(np.float32)
        slots, positions = np.array([1, 0]), np.array([position, length - 1 - position])
        alone, split = (np.empty((2, heads * width), np.float32) for _ in range(2))
        cpu_kernels.attend(qkv, kept.copy(), slots, positions, scale, 1, alone)
        cpu_kernels.attend(qkv, kept.copy(), slots, positions, scale, 2, split)
        np.testing.assert_array_equal(alone, split)


def in_a_new_process(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compiling_ahead_does_not_import_torch() -> None:
    code = "import sys; from bot.engine.cpu_compile import compile_step; compile_step(); print('torch' in sys.modules)"
    assert in_a_new_process(code).strip() == "False"


BOTH_KINDS_OF_THREADS = """
from bot.engine.cpu_compile import compile_step
compile_step()
import torch
torch.set_num_threads(2)
torch.ones(1 << 20).add_(1)
"""
BOUND = re.compile(r"binding file (\S+) \S+ to (\S+) \S+ normal symbol `GOMP_parallel'")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's loader tells what it bound")
def test_numbas_threads_and_torchs_are_of_torchs_library(tmp_path: Path) -> None:
    package = Path(torch.__file__).parent
    brought = {str(path) for path in (*package.glob("lib/libgomp*.so*"), *package.parent.glob("torch.libs/libgomp*.so*"))}
    if not brought:
        pytest.skip("this torch brings no libgomp")
    in_a_new_process(BOTH_KINDS_OF_THREADS, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(tmp_path / "bound"))
    bound = dict(BOUND.findall("".join(path.read_text(errors="replace") for path in tmp_path.glob("bound*"))))
    of_torch = [library for user, library in bound.items() if "libtorch_cpu" in user]
    of_numba = [library for user, library in bound.items() if "omppool" in user]
    assert of_torch == of_numba
    assert set(of_torch) <= brought
    assert of_torch
