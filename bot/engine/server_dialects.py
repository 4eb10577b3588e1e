"""What each kind of server takes at /v1/completions, found out by reading its source, and chosen by trying once.

| server                      | prompt    | sampling beside temperature, top_p, seed, stop        | log P of a prompt |
|-----------------------------|-----------|-------------------------------------------------------|-------------------|
| vLLM                        | token ids | top_k, min_p, repetition_penalty, logit_bias          | prompt_logprobs   |
| llama.cpp                   | token ids | top_k, min_p, repeat_penalty, logit_bias              | no (`echo` raises)|
| transformers serve 5.23     | text      | all of `generate`, as JSON in `generation_config`     | no (ignored)      |
| others, OpenAI's form       | ids, text | logit_bias, if ids                                    | by `echo`, if ids |

A logit_bias bans single tokens, so banned words of several are banned by transformers serve only.

Sources: vllm/entrypoints/openai/completion/protocol.py; llama.cpp tools/server/server-common.cpp and server-task.cpp;
transformers/cli/serving/completion.py and utils.py, which answers 422 to any field that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from bot.engine.interface import GREEDY_BELOW, GenerationRequest, Sampling

Fields = dict[str, Any]


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that every server must know of: those that end a text, and those that must never be written."""

    eos_ids: tuple[int, ...]
    never: tuple[int, ...]


@dataclass(frozen=True)
class Dialect:
    """How one kind of server is spoken to."""

    name: str
    takes_ids: bool
    """Whether a prompt goes as token ids; else it goes as text."""
    fields: Callable[[GenerationRequest, Vocabulary], Fields]
    """How the next token is drawn, in this server's words."""
    lacks: Collection[str]
    """The parts of Sampling that it does not know; a story goes without them."""
    scoring: Literal["prompt_logprobs", "echo"] | None = None
    """How it tells the probability of a prompt, if it does."""
    owner: str | None = None
    """What /v1/models says in `owned_by`."""

    bans_words: bool = False
    """Whether it bans words of several tokens, too."""

    def missing(self, sampling: Sampling) -> list[str]:
        """What of this sampling it does not do."""
        missing = [name for name in self.lacks if getattr(sampling, name) != getattr(Sampling(), name)]
        if not self.bans_words and any(len(word) > 1 for word in sampling.banned_ids):
            missing.append("ban on words of several tokens")
        return missing


def _openai(request: GenerationRequest, _: Vocabulary) -> Fields:
    sampling = request.sampling
    fields: Fields = {"temperature": _temperature(sampling), "top_p": sampling.top_p, "seed": request.seed}
    if request.stop:
        fields["stop"] = list(request.stop[:4])  # OpenAI takes four; ours are checked here as well
    return fields


def _openai_with_bias(request: GenerationRequest, vocabulary: Vocabulary) -> Fields:
    bias = {str(token): -100 for token in _banned(request, vocabulary)[:300]}  # the most that OpenAI takes
    return _openai(request, vocabulary) | ({"logit_bias": bias} if bias else {})


def _vllm(request: GenerationRequest, vocabulary: Vocabulary) -> Fields:
    sampling = request.sampling
    return _openai_with_bias(request, vocabulary) | {
        "stop": list(request.stop),
        # each is said even when off, as a server's own defaults come from generation_config.json
        "top_k": sampling.top_k or -1,  # older versions refuse 0
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "stream_options": {"include_usage": True},
    }


def _llama_cpp(request: GenerationRequest, vocabulary: Vocabulary) -> Fields:
    sampling = request.sampling
    return _openai(request, vocabulary) | {
        "stop": list(request.stop),
        "seed": request.seed % (2**32 - 1),  # 32 bits, of which the last value means "draw one"
        "top_k": sampling.top_k,  # its defaults are 40 and 0.05
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": -1,
        "logit_bias": [[token, False] for token in _banned(request, vocabulary)],
        "stream_options": {"include_usage": True},
    }


def _transformers(request: GenerationRequest, vocabulary: Vocabulary) -> Fields:
    """All in `generation_config`, which takes the place of the model's own: so the end token is in it too."""
    sampling = request.sampling
    greedy = sampling.temperature < GREEDY_BELOW
    plain = {name: value for name, value in _openai(request, vocabulary).items() if name != "stop"}
    config: Fields = {
        "do_sample": not greedy,
        "repetition_penalty": sampling.repetition_penalty,
        "no_repeat_ngram_size": sampling.no_repeat_ngram,
        "eos_token_id": list(vocabulary.eos_ids) or None,
        "pad_token_id": next(iter(vocabulary.eos_ids), 0),
        "suppress_tokens": list(vocabulary.never) or None,
        "bad_words_ids": [list(word) for word in sampling.banned_ids if word] or None,
    }
    if not greedy:
        config |= {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p or None,
        }
    # temperature and top_p stand beside it too, for a server that takes the rest and ignores it
    fields: Fields = plain | {"generation_config": json.dumps(config)}
    return fields | ({"stop": list(request.stop)} if request.stop else {})


def _banned(request: GenerationRequest, vocabulary: Vocabulary) -> list[int]:
    """The single tokens that must not be written."""
    return [*vocabulary.never, *(word[0] for word in request.sampling.banned_ids if len(word) == 1)]


def _temperature(sampling: Sampling) -> float:
    return 0.0 if sampling.temperature < GREEDY_BELOW else sampling.temperature


_NO_NGRAMS = ("no_repeat_ngram",)
_OPENAI_LACKS = ("top_k", "min_p", "repetition_penalty", "no_repeat_ngram")

VLLM = Dialect("vLLM", True, _vllm, _NO_NGRAMS, "prompt_logprobs", "vllm")
LLAMA_CPP = Dialect("llama.cpp", True, _llama_cpp, _NO_NGRAMS, None, "llamacpp")
TRANSFORMERS = Dialect("transformers serve", False, _transformers, (), bans_words=True)
OPENAI = Dialect("OpenAI's completions", True, _openai_with_bias, _OPENAI_LACKS, "echo")
OPENAI_TEXT = Dialect("OpenAI's completions, by text", False, _openai, (*_OPENAI_LACKS, "banned_ids"))


def candidates(owner: str | None) -> list[Dialect]:
    """The dialects to try, the likeliest first. A server that names its kind is believed; the others refuse token ids or fields
    that they do not know, and then the next one is tried.
    """
    named = [dialect for dialect in (VLLM, LLAMA_CPP) if dialect.owner == owner]
    return named or [OPENAI, TRANSFORMERS, OPENAI_TEXT]
