"""Plots, as the files in trainer/data/grammar hold them: beats, each said in several ways.

    == The lamp that answered        a plot
    about: thing                     what its prompt names: a thing, a place or a being
    > {a thing} that answers back    a prompt of its own, beside those that every plot has

    - {Hero} found {a thing} ...     the first beat: one way to say it, a paragraph of its own
    - In the attic ...               another way

    + "Who is it?" {he} asked.       the next beat goes on in the same paragraph
      (a line that is indented belongs to the one above)

    sometimes:                       a beat that may be left out
    - @sad It rained ... / "Yes."    a way that only fits other ways marked @sad; / begins a new paragraph

A blank line ends a beat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.grammar.errors import GrammarError
from trainer.grammar.words import numbered_lines

KINDS = ("thing", "place", "being")
_WAY = re.compile(r"([-+])\s+(?:@([a-z]+)\s+)?(.+)")


@dataclass(frozen=True)
class Way:
    """One way to say a beat."""

    text: str
    path: str | None
    """The turn of the plot that it belongs to; None fits all."""
    where: str


@dataclass
class Beat:
    """One step of a plot."""

    joined: bool = False
    """Goes on in the paragraph of the beat before."""
    optional: bool = False
    ways: list[Way] = field(default_factory=list[Way])


@dataclass
class Plot:
    """A story that can be told in many ways."""

    name: str
    where: str
    about: str = ""
    prompts: list[str] = field(default_factory=list[str])
    beats: list[Beat] = field(default_factory=list[Beat])

    @property
    def paths(self) -> tuple[str, ...]:
        """The turns that it can take, in the order of the file; empty for a plot that takes none."""
        return tuple(dict.fromkeys(way.path for beat in self.beats for way in beat.ways if way.path is not None))


def read_plots(path: Path) -> list[Plot]:
    """The plots of one file. Raises GrammarError with the line."""
    return [_read_plot(path, block) for block in _plot_blocks(path)]


def _plot_blocks(path: Path) -> Iterator[list[tuple[int, str]]]:
    block: list[tuple[int, str]] = []
    for number, line in numbered_lines(path):
        if line.startswith("=="):
            if block:
                yield block
            block = [(number, line)]
        elif block:
            _add_line(block, number, line)
        elif line:
            raise GrammarError(f"{path}:{number} stands before any plot: begin one with == and its name.")
    if block:
        yield block


def _add_line(block: list[tuple[int, str]], number: int, line: str) -> None:
    """Append a line; an indented one is joined to the line above."""
    above, text = block[-1]
    if line.startswith(" ") and line.strip() and text:
        block[-1] = above, f"{text} {line.strip()}"
    else:
        block.append((number, line.strip()))


def _read_plot(path: Path, block: list[tuple[int, str]]) -> Plot:
    first, heading = block[0]
    plot = Plot(heading.lstrip("= ").strip(), f"{path}:{first}")
    beat = Beat()
    for number, line in [*block[1:], (0, "")]:
        where = f"{path}:{number}"
        if not line:
            if beat.ways:
                plot.beats.append(beat)
                beat = Beat()
        elif line.startswith("about:"):
            plot.about = line.removeprefix("about:").strip()
        elif line.startswith(">"):
            plot.prompts.append(line[1:].strip())
        elif line == "sometimes:":
            beat.optional = True
        elif match := _WAY.fullmatch(line):
            sign, turn, text = match.groups()
            if beat.ways and beat.joined != (sign == "+"):
                raise GrammarError(f"{where}: the ways of one beat begin all with - or all with +; a blank line ends a beat.")
            beat.joined = sign == "+"
            beat.ways.append(Way(text, turn, where))
        else:
            raise GrammarError(f"{where} is no part of a plot: begin it with -, +, >, about: or sometimes:, or indent it.")
    _check(plot)
    return plot


def _check(plot: Plot) -> None:
    if plot.about not in KINDS:
        raise GrammarError(f"{plot.where}: say what {plot.name!r} is about: about: {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if len(plot.beats) < 3:
        raise GrammarError(
            f"{plot.where}: {plot.name!r} has {len(plot.beats)} beats; a story needs a beginning, a turn and an end."
        )
    for beat in plot.beats:
        for turn in plot.paths:
            if not any(way.path in (None, turn) for way in beat.ways) and not beat.optional:
                raise GrammarError(f"{beat.ways[0].where}: this beat has no way for @{turn}: add one, or one without a mark.")
