"""Continuous batching of transformers: all stories at once, as a server with that library tells them.

    pause the manager's thread, hand over all stories   ->   one prefill of all   ->   a step of all for each token

It is timed until the last token of the last story is here, as a number. Which settings are fastest depends on the GPU and on
what is installed beside transformers, so on a GPU each of GPU_SETTINGS is warmed up and timed in a process of its own, and the
fastest one stays. A process each, since a CUDA graph that can't be captured, or a kernel that asserts, spoils the CUDA context
of all that its process does later. The price is some fifteen seconds for each before the first round. On an H100, 64 stories of
GPT-2 124M: 4,600 tokens a second by its own choice, 13,800 with CUDA graphs, 17,100 with batches prepared ahead as well.

What differs from its own defaults, and why (transformers 5.23):

- The cache has room for exactly these stories. By default it takes 90 % of the memory that its process thinks free, which is
  not so beside another engine, and the masks of SDPA grow with it.
- Its warm-up is left out: that feeds positions up to `max_batch_tokens` (8,192), and a model that knows 1,024 positions then
  would assert on the GPU. Whole calls warm it up here, and capture the graphs of just the shapes that the rounds have.
- It drops min_new_tokens. No end token is named in its place, so each story has all its tokens; they are counted all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bot.bench.process import OtherProcess, load_model, other_process, quiet_transformers
from bot.errors import StoryError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bot.engine.interface import Sampling

_PAGE_TOKENS = 256
_MOST_BATCH_TOKENS = 2048
"""A longer prefill goes in several passes: the mask of SDPA has this many rows."""
_KV_STEP = 1024
"""A captured graph reads keys and values up to a multiple of it. Fewer read less that is masked, more need fewer graphs."""
_NO_TOKEN = -1
_WARM_UP_TOKENS = 8
_START_S = 300.0
_STEP_S = 5.0


@dataclass(frozen=True)
class ToldTogether:
    """All stories of one call."""

    tokens: int
    """That were really written, of all stories together."""
    seconds: float


@dataclass(frozen=True)
class Setting:
    """One way to run it."""

    name: str
    graphs: bool = False
    """Capture CUDA graphs over SDPA, which has a mask: by itself the library captures only over flash attention."""
    ahead: bool = False
    """With graphs: prepare a batch while the one before it is computed."""


OWN_CHOICE = Setting("its own choice")
"""Flash attention with graphs where that is installed, else SDPA without."""
GPU_SETTINGS = (
    OWN_CHOICE,
    Setting("CUDA graphs", graphs=True),
    Setting("CUDA graphs and batches prepared ahead", graphs=True, ahead=True),
)


class Continuous:
    """The process that runs it, warmed up."""

    def __init__(self, process: OtherProcess) -> None:
        self._process = process

    def tell(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> ToldTogether:
        """All of them at once; blocks until they are told. Raises StoryError, after which it can't go on."""
        question = [list(prompt) for prompt in prompts], new_tokens
        told = cast("ToldTogether", self._process.ask(question, patience_s=_START_S + _STEP_S * new_tokens))
        if told.tokens != len(prompts) * new_tokens:
            raise StoryError(f"it wrote {told.tokens} tokens in place of {len(prompts) * new_tokens}.")
        return told


@contextmanager
def continuous(
    model_dir: Path,
    device: str,
    sampling: Sampling,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    say: Callable[[str], None],
) -> Generator[Continuous]:
    """The fastest setting for such stories on this device. Raises StoryError where none works, with each one's reason."""
    on_gpu = device.startswith("cuda")
    why_not: list[str] = []
    fastest, best = 0.0, None
    with ExitStack() as kept:
        for setting in GPU_SETTINGS if on_gpu else (OWN_CHOICE,):
            with ExitStack() as tried:
                try:
                    this = tried.enter_context(_started(model_dir, device, sampling, setting, prompts, new_tokens))
                    speed = _warm_up(this, prompts, new_tokens, on_gpu=on_gpu)
                except StoryError as error:
                    why_not.append(f"{setting.name}: {error}")
                    say(f"Continuous batching does not work with {setting.name}: {error}")
                    continue
                if on_gpu:
                    say(f"continuous batching with {setting.name}: {speed:,.0f} tokens/s")
                if speed > fastest:
                    kept.close()  # ends the slower one
                    fastest, best = speed, this
                    kept.enter_context(tried.pop_all())
        if best is None:
            raise StoryError("; ".join(why_not))
        yield best


@contextmanager
def _started(
    model_dir: Path, device: str, sampling: Sampling, setting: Setting, prompts: Sequence[Sequence[int]], new_tokens: int
) -> Generator[Continuous]:
    longest = max(len(prompt) for prompt in prompts)
    stories = len(prompts), longest, longest + new_tokens
    what = "transformers' continuous batching"
    with other_process(what, _serve, model_dir, device, asdict(sampling), setting, stories, patience_s=_START_S) as process:
        yield Continuous(process)


def _warm_up(this: Continuous, prompts: Sequence[Sequence[int]], new_tokens: int, *, on_gpu: bool) -> float:
    """Tokens a second, to compare settings: on a GPU of a whole call, after one that captures its graphs."""
    if on_gpu:
        this.tell(prompts, new_tokens)
    told = this.tell(prompts, new_tokens if on_gpu else min(new_tokens, _WARM_UP_TOKENS))
    return told.tokens / told.seconds


def _serve(
    model_dir: Path,
    device: str,
    sampling: dict[str, Any],
    setting: Setting,
    stories: tuple[int, int, int],
    pipe: Connection[Any, Any],
) -> None:
    """What the process runs."""
    quiet_transformers()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # its errors are told where it was started
    manager: Any = None
    try:
        model = load_model(model_dir, device)
        manager = model.init_continuous_batching(
            generation_config=_generation_config(sampling), continuous_batching_config=_config(setting, *stories)
        )
        manager.start()
        pipe.send(None)
        while True:
            pipe.send(_tell(manager, *pipe.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the bench has ended
    except Exception as error:  # noqa: BLE001 - told where it was started
        pipe.send(_first_line(error))
    finally:
        if manager is not None:
            manager.stop(hard_stop=True, timeout=5)  # else its thread keeps this process


def _generation_config(sampling: dict[str, Any]) -> Any:
    from transformers import GenerationConfig

    drawn = {name: sampling[name] for name in ("temperature", "top_k", "top_p")}
    return GenerationConfig(do_sample=True, eos_token_id=_NO_TOKEN, **drawn)


def _config(setting: Setting, users: int, longest_prompt: int, longest_story: int) -> Any:
    """Room for so many stories, prompts and new tokens together, and for all prompts in one pass where that is not too wide."""
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    wide = min(_MOST_BATCH_TOKENS, _up_to(64, users * longest_prompt))  # whole 64s: SDPA's fast kernels want aligned masks
    options: dict[str, Any] = {}
    if setting.graphs:
        options = {
            "auto_switch_to_flash": False,
            "use_cuda_graph": True,
            "use_async_batching": setting.ahead,
            "q_padding_interval_size": _up_to(8, users),  # a step has one token a story: more would be computed for nobody
            "kv_padding_interval_size": _KV_STEP,
        }
    return ContinuousBatchingConfig(
        page_size=_PAGE_TOKENS,
        num_blocks=users * _up_to(_PAGE_TOKENS, longest_story) // _PAGE_TOKENS,
        max_batch_tokens=wide,
        max_requests_per_batch=users,
        safety_margin=0.0,  # else a full cache puts off the last stories' prefill
        allow_block_sharing=False,  # few short prompts, as its documentation advises; and no round gains by the one before it
        seed=0,
        **options,
    )


def _tell(manager: Any, prompts: list[list[int]], new_tokens: int) -> ToldTogether:
    started_s = time.perf_counter()
    with manager.pause():  # else the first story is begun while the others are handed over, in a batch of a shape of its own
        manager.add_requests(prompts, max_new_tokens=new_tokens)
    tokens = sum(len(_next(manager).generated_tokens) for _ in prompts)
    return ToldTogether(tokens, time.perf_counter() - started_s)


def _next(manager: Any) -> Any:
    """The next story that is told. Raises StoryError."""
    while (story := manager.get_result(timeout=1)) is None:
        if not manager.is_running():
            raise StoryError(_first_line(manager.background_thread_status.fatal_error))
    if story.error is not None:
        raise StoryError(_first_line(story.error))
    return story


def _first_line(error: object) -> str:
    """CUDA's errors go on with advice about environment variables."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _up_to(multiple: int, number: int) -> int:
    return -(-number // multiple) * multiple
