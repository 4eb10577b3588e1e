"""A model directory that can't be used is one sentence that names the file, and never a model of random weights."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_gpt2 import read, refuse_int8
from transformers import GPT2LMHeadModel

from bot.engine import loading
from bot.engine.cuda_forward import CudaForward
from bot.engine.gpt2_weights import Gpt2Shape, Gpt2Weights, covered_shape, read_weights
from bot.engine.interface import GenerationRequest
from bot.engine.local import LocalEngine
from bot.engine.model_files import read_fields
from bot.errors import ModelUnavailable, ShuttingDown


def change_config(model_dir: Path, **fields: object) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps(config | fields))


def truncate(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def drop_a_weight(model_dir: Path) -> None:
    weights = load_file(model_dir / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})


def pickle_the_weights(model_dir: Path) -> None:
    torch.save(load_file(model_dir / "model.safetensors"), model_dir / "pytorch_model.bin")
    (model_dir / "model.safetensors").unlink()


def take_byte_level_away(model_dir: Path) -> None:
    tokenizer = json.loads((model_dir / "tokenizer.json").read_text())
    (model_dir / "tokenizer.json").write_text(json.dumps(tokenizer | {"decoder": None}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "config.json is missing"),
    "torn config": (lambda d: truncate(d / "config.json"), "config.json"),
    "a config that is a list": (lambda d: (d / "config.json").write_text("[]"), "config.json"),
    "a config in no encoding": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json"),
    "another architecture": (lambda d: change_config(d, model_type="llama"), "'llama'"),
    "no context length": (lambda d: change_config(d, n_positions=None), "n_positions"),
    "layers that are no number": (lambda d: change_config(d, n_layer="two"), "config.json"),
    "heads that do not divide": (lambda d: change_config(d, n_head=3), "config.json"),
    "an unknown activation": (lambda d: change_config(d, activation_function="nope"), "config.json"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "torn tokenizer": (lambda d: truncate(d / "tokenizer.json"), "tokenizer.json"),
    "a tokenizer not byte-level": (take_byte_level_away, "tokenizer.json"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "weights only as a pickle": (pickle_the_weights, "model.safetensors is missing"),
    "empty weights": (lambda d: (d / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "torn weights": (lambda d: truncate(d / "model.safetensors"), "model.safetensors"),
    "weights torn at the end": (lambda d: truncate(d / "model.safetensors", 0.999), "model.safetensors"),
    "a weight is missing": (drop_a_weight, "transformer.h.1.mlp.c_fc.weight"),
    "more layers than weights": (lambda d: change_config(d, n_layer=3), "transformer.h.2"),
    "fewer layers than weights": (lambda d: change_config(d, n_layer=1), "transformer.h.1"),
    "another width": (lambda d: change_config(d, n_embd=64), "model.safetensors"),
    "a longer context than trained": (lambda d: change_config(d, n_positions=128), "transformer.wpe.weight"),
    "a vocabulary smaller than the tokenizer": (lambda d: change_config(d, vocab_size=100), "tokenizer.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_model_directory_is_a_sentence_that_names_what_is_wrong(model_dir: Path, fault: str) -> None:
    spoil, named = FAULTS[fault]
    spoil(model_dir)
    engine = LocalEngine(model_dir, threads=1, device="cpu")
    with pytest.raises(ModelUnavailable) as told:
        await engine.load()
    assert named in str(told.value)
    assert not engine.ready
    await engine.close()


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path / "nowhere", threads=1)
    with pytest.raises(ModelUnavailable, match="nowhere"):
        await engine.load()
    await engine.close()


@pytest.mark.parametrize(("room", "slots"), [(9, 8), (3, 2), (1, 1)])
def test_a_gpu_with_little_memory_gets_fewer_slots(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int, slots: int
) -> None:
    made = CudaForward.resize

    def resize(forward: CudaForward, asked: int) -> None:
        if asked > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        made(forward, asked)

    monkeypatch.setattr(CudaForward, "resize", resize)
    placement = loading.Placement(torch.device("cpu"), torch.float32, "a stand-in for a GPU")
    assert loading._cuda_forward(weights_of(pristine), placement, 8).forward.slots == slots
    assert ("not enough memory" in caplog.text) is (slots < 8)


def test_a_gpu_without_room_for_one_story_says_what_to_do(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(_: CudaForward, __: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CudaForward, "resize", resize)
    placement = loading.Placement(torch.device("cpu"), torch.float32, "a stand-in for a GPU")
    with pytest.raises(ModelUnavailable, match='End what else uses it, or set the device to "cpu"'):
        loading._cuda_forward(weights_of(pristine), placement, 8)


def weights_of(directory: Path) -> Gpt2Weights:
    shape = covered_shape(read_fields(directory))
    assert isinstance(shape, Gpt2Shape)
    return read_weights(directory, shape)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
async def test_a_device_that_is_not_there_is_named(pristine: Path, device: str) -> None:
    engine = LocalEngine(pristine, threads=1, device=device)
    with pytest.raises(ModelUnavailable, match=device):
        await engine.load()
    await engine.close()


@pytest.mark.parametrize(("named", "number"), [("cuda:1", 1), ("cuda", 0)])
def test_the_gpu_that_was_named_is_the_decode_thread_s_own(
    named: str, number: int, pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []

    def made(*_: object) -> None:
        done.append("forward")
        raise ModelUnavailable("as far as this goes without a GPU")

    placement = loading.Placement(torch.device(named), torch.float32, "one of two")
    monkeypatch.setattr(loading, "choose_placement", lambda _: placement)
    monkeypatch.setattr(torch.cuda, "set_device", done.append)
    monkeypatch.setattr(loading, "_make_forward", made)
    with pytest.raises(ModelUnavailable):
        loading.load_model(pristine, 1, named, 8)
    assert done == [number, "forward"]  # torch refuses a device without a number here


async def test_a_fault_nobody_foresaw_is_logged_and_still_a_sentence(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *_: 1 / 0)
    engine = LocalEngine(pristine, threads=1)
    with pytest.raises(ModelUnavailable):
        await engine.load()
    assert "ZeroDivisionError" in caplog.text
    await engine.close()


async def test_a_failed_load_fails_for_all_who_wait_and_a_later_one_tries_again(model_dir: Path) -> None:
    tokenizer = (model_dir / "tokenizer.json").read_bytes()
    truncate(model_dir / "tokenizer.json")
    engine = LocalEngine(model_dir, threads=1, device="cpu")
    failures = await asyncio.gather(engine.load(), engine.load(), engine.load(), return_exceptions=True)
    assert [type(failure) for failure in failures] == [ModelUnavailable] * 3
    (model_dir / "tokenizer.json").write_bytes(tokenizer)
    await engine.load()
    assert engine.ready
    await engine.close()


async def test_all_callers_share_one_load_and_one_who_gives_up_ends_no_others(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []
    real = loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda *args: (loads.append(args[0]), real(*args))[1])
    engine = LocalEngine(pristine, threads=1, device="cpu")
    impatient = asyncio.create_task(engine.load())
    patient = [asyncio.create_task(engine.load()) for _ in range(3)]
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(*patient)
    assert loads == [pristine]
    assert impatient.cancelled()
    await engine.close()


@pytest.fixture
def stuck_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A load that has begun (the first event) and ends when the second is set, by failing as at an interpreter's exit."""
    begun, go_on = threading.Event(), threading.Event()

    def load(*_: object) -> None:
        begun.set()
        go_on.wait()
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(loading, "load_model", load)
    yield begun, go_on
    go_on.set()


async def test_close_gives_up_a_load_in_flight_and_ends_all_who_wait_for_it_at_once(
    pristine: Path,
    stuck_load: tuple[threading.Event, threading.Event],
    request_for: Callable[..., GenerationRequest],
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = stuck_load
    engine = LocalEngine(pristine, threads=1, device="cpu")
    calls = [engine.load(), engine.load(), read(engine, request_for()), engine.score([[1]], [2])]
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.to_thread(begun.wait)
    await engine.close()  # returns though the load does not
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown] * 4
    assert not engine.ready
    assert engine._thread._thread.daemon  # so that the load does not hold up the process's end
    go_on.set()
    await asyncio.to_thread(engine._thread._thread.join)
    assert "Traceback" not in caplog.text
    await engine.close()


async def test_weights_saved_without_their_prefix_load_as_the_hubs_gpt2_does(
    model_dir: Path, reference: GPT2LMHeadModel, request_for: Callable[..., GenerationRequest]
) -> None:
    before = LocalEngine(model_dir, threads=1, device="cpu")
    whole = await read(before, request_for(temperature=0))
    await before.close()
    weights = load_file(model_dir / "model.safetensors")
    bare = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)  # the causal mask that old checkpoints carry
    save_file(bare, model_dir / "model.safetensors", metadata={"format": "pt"})
    refuse_int8(model_dir)
    after = LocalEngine(model_dir, threads=1, device="cpu")
    assert (await read(after, request_for(temperature=0))) == whole
    await after.close()


async def test_the_context_is_known_before_the_model_is_loaded(pristine: Path) -> None:
    engine = LocalEngine(pristine, threads=1)
    assert engine.n_positions == 64
    assert not engine.ready
    await engine.close()


def test_importing_the_engine_imports_no_torch() -> None:
    code = "import sys, bot.engine.local; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
