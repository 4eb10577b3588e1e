"""In which number format this machine is taught: weights, their gradients and moments are fp32 in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from trainer.processes import anywhere


@dataclass(frozen=True)
class Precision:
    """A number format, how Trainer calls it, and why it is the one."""

    dtype: torch.dtype
    flags: dict[str, Any]
    reason: str

    @property
    def name(self) -> str:
        """fp32, bf16 or fp16."""
        return {torch.float32: "fp32", torch.bfloat16: "bf16"}.get(self.dtype, "fp16")


def precision(asked: Literal["auto", "fp32"], recipe: str = "ours", begun_in: str | None = None) -> Precision:
    """What this machine computes in: bf16 or fp16 beside fp32 weights where it has instructions for that, else fp32 alone.

    A training that was `begun_in` fp32 goes on in it on a CPU, and the report's recipe is in it there, as it comes with
    transformers. Processes that teach together have to ask together.
    """
    if asked == "fp32":
        return Precision(torch.float32, {}, "fp32, as asked")
    if not torch.cuda.is_available():
        return _on_cpu(recipe, begun_in)
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(torch.bfloat16, {"bf16": True, "tf32": True}, f"bf16: {name} computes in it")
    return Precision(torch.float16, {"fp16": True}, f"fp16 with loss scaling: {name} has no bf16")


def _on_cpu(recipe: str, begun_in: str | None) -> Precision:
    if recipe != "ours":
        return Precision(torch.float32, {}, "fp32, as the report's recipe has it on a CPU")
    if begun_in == "fp32":
        return Precision(torch.float32, {}, "fp32: this training was begun in it")
    if anywhere(not cpu_has_bf16()):
        return Precision(torch.float32, {}, "fp32: no CUDA device, and a CPU without instructions for bf16")
    return Precision(torch.bfloat16, {"bf16": True}, "bf16: this CPU has instructions for it")


def cpu_has_bf16() -> bool:
    """Whether this CPU has what oneDNN, by which torch multiplies, needs for bf16: AVX512-BF16 (Zen 4, Cooper Lake) or AMX.

    On two cores of a Zen 4 its products then have 2.2 times the rate of fp32. Without them it goes through fp32 value by
    value: a Zen 3 had a ninth of the rate.
    """
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return torch.backends.mkldnn.is_available() and any(features.get(name, False) for name in ("avx512bf16", "amx-bf16"))
