"""log P(continuation | prefix) from a server that tells how likely each token of a prompt was.

vLLM gives `prompt_logprobs`, each position a map from token id to its logprob, the prompt's own token among them. OpenAI's
form is `echo` with `logprobs`, a list with one number a token. Both are asked to write one token, which nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Way = Literal["prompt_logprobs", "echo"]


def to_be_scored(way: Way, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> dict[str, Any]:
    """The body of one request for all prefixes."""
    prompts = [[*prefix, *continuation] for prefix in prefixes]
    asked = {"prompt_logprobs": 1} if way == "prompt_logprobs" else {"echo": True, "logprobs": 1}
    return {"prompt": prompts, "max_tokens": 1, "temperature": 0, **asked}


def summed(way: Way, answer: Any, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float] | None:
    """The sums in nats in the order of the prefixes; None where the answer does not hold them."""
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return [
            sum(_logprobs(way, choice, continuation, len(prefix))) for choice, prefix in zip(choices, prefixes, strict=True)
        ]
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _logprobs(way: Way, choice: Any, continuation: Sequence[int], start: int) -> list[float]:
    if way == "prompt_logprobs":
        return [float(choice["prompt_logprobs"][start + at][str(token)]["logprob"]) for at, token in enumerate(continuation)]
    logprobs = choice["logprobs"]["token_logprobs"]
    return [float(logprobs[start + at]) for at in range(len(continuation))]
