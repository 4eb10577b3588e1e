"""Pictures without a display. The same figures give the same bytes: no date and no version is written into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INK = "#1f3b57"
ACCENT = "#c2542d"


def figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure in inches and its axes, drawn to a file and nowhere else."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return drawn, drawn.subplots()


def save(drawn: Any, path: Path) -> None:
    """Write the PNG."""
    drawn.savefig(path, metadata={"Software": None})
