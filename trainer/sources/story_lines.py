r"""The corpus command's text form: one story a line, tag first, written and read back with nothing lost.

    [FANTASY] magic castle\nOnce upon a time ...\n\nSecond paragraph.

It is the very template that the model is taught, with its line breaks written out: `\n` is a line break and `\\` a backslash.
The first line break ends the prompt, which may be empty. The price is that a line of somebody else's plain text may look the
same: `[HORROR] He typed C:\new and waited.` would be a prompt `He typed C:` and a story `ew and waited.` So `from_line`, which
takes each line at its word, is not asked alone: `plain_text` reads a line this way only where most tagged lines at the head of
the file have this form, or where the line has an empty line (`\n\n`) in it, as no path has. A line with any other escape
(`\d`, or a backslash at its end) never is one of these, and is read as it stands.
"""

from __future__ import annotations

import re

from trainer.story_format import genre_name, one_line, split_tag

PARAGRAPH_BREAK = r"\n\n"
"""As it stands in a line: backslash, n, backslash, n."""
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_MEANING = {"n": "\n", "\\": "\\"}


def to_line(genre: str, prompt: str, text: str) -> str:
    """One story as a line, without the line's end. `text` is as `clean` leaves it.

    Raises ValueError for a genre that can't be a tag, a prompt of several lines, or no text: such a line would not come back.
    """
    if genre_name(genre) != genre:
        raise ValueError(f"{genre!r} can't be a genre's tag")
    if one_line(prompt) != prompt:
        raise ValueError(f"the prompt {prompt!r} is not one line with single spaces")
    if not text:
        raise ValueError("a story without text")
    return f"[{genre}] {_escape(prompt)}\\n{_escape(text)}"


def from_line(line: str) -> tuple[str, str, str] | None:
    """(genre, prompt, text) of a line that `to_line` could have written; None for any other."""
    if "\\n" not in line:
        return None
    genre, rest = split_tag(line)
    whole = _unescape(rest) if genre else None
    if genre is None or whole is None:
        return None
    prompt, line_break, text = whole.partition("\n")
    return (genre, prompt, text) if line_break and text else None


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(text: str) -> str | None:
    """The text that was escaped; None where a backslash begins anything else."""
    pieces = _ESCAPED.split(text)
    if not all(escaped in _MEANING for escaped in pieces[1::2]):
        return None
    pieces[1::2] = [_MEANING[escaped] for escaped in pieces[1::2]]
    return "".join(pieces)
