"""The picture of a sweep: total tokens/s and time to first token against the number of stories at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bot.errors import StoryError

if TYPE_CHECKING:
    from bot.bench.command import Figures

_OURS, _FIRST, _THEIRS = "#1f3b57", "#c2542d", "#8a8a8a"


def draw(figures: Figures, to: Path) -> None:
    """Write the PNG. Raises StoryError where that can't be."""
    from matplotlib.figure import Figure

    users = [step["users"] for step in figures.sweep]
    picture = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    speed = picture.subplots()
    speed.plot(users, [step["tok_per_s"] for step in figures.sweep], "o-", color=_OURS, label="tokens/s of all stories")
    speed.axhline(figures.generate_tok_per_s, color=_THEIRS, linestyle="--", label="generate, one after another")
    speed.set_xscale("log", base=2)
    speed.set_xticks(users, [f"{number:.0f}" for number in users])
    speed.set_xlabel("stories at once")
    speed.set_ylabel("tokens/s")
    speed.set_ylim(bottom=0)
    wait = speed.twinx()
    wait.plot(users, [1000 * step["ttft_p95_s"] for step in figures.sweep], "s:", color=_FIRST, label="first token, p95")
    wait.set_ylabel("milliseconds", color=_FIRST)
    wait.set_ylim(bottom=0)
    lines = [*speed.get_lines(), *wait.get_lines()]
    speed.legend(lines, [str(line.get_label()) for line in lines], loc="upper left", frameon=False)
    speed.set_title(f"{figures.size} on {figures.device}", fontsize=9)
    try:
        picture.savefig(to, metadata={"Software": None})
    except OSError as error:
        raise StoryError(f"The sweep can't be drawn to {to} ({error}).") from None
