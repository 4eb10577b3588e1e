"""What is mended in a text. Each rule turns a text into a cleaner one, and gives the same text back where it finds nothing.

Rules run in the order of `mendings`, on paragraphs parted by one blank line. Before a rule looks closely it asks something
cheap, such as whether there is a "<" at all, so that only a text that needs mending pays for it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from trainer.corpus import furniture
from trainer.sources.books import join_wrapped
from trainer.sources.source_text import clean

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

Punctuation = Literal["ascii", "keep"]


@dataclass(frozen=True)
class Mending:
    """A rule that changes texts."""

    name: str
    says: str
    """What it did, for the report."""
    mend: Callable[[str], str]


def mendings(punctuation: Punctuation) -> tuple[Mending, ...]:
    """All rules in the order in which they run."""
    rules = (
        Mending("encoding", "repaired letters that were read in the wrong encoding (cafÃ©), by ftfy", _encoding),
        Mending("control characters", "took out control characters and marks without a width", _control_characters),
        Mending("white space", "put one space between words and one blank line between paragraphs", clean),
        Mending("HTML", "took out tags and comments, and wrote entities as what they stand for", _markup),
        Mending("Project Gutenberg", "cut away Project Gutenberg's header, licence and credits", furniture.gutenberg),
        Mending("transcriber's notes", "took out notes by transcribers", furniture.transcribers_notes),
        Mending(
            "brackets", "took out [Illustration], [Pg 12], [Footnote: …] and the marks of notes, as [1]", furniture.brackets
        ),
        Mending("page numbers", "took out lines that are a page number alone", furniture.page_numbers),
        Mending("running heads", "took out titles that are repeated on each page", furniture.running_heads),
        Mending("links", "took out lines that are a web address alone", _links),
        Mending("wrapped lines", "joined lines that were wrapped at a fixed width", _wrapped_lines),
        Mending("emphasis", "took out the marks of _italics_ and **bold**", _emphasis),
        Mending("scene breaks", f"wrote each scene break as {furniture.SCENE_BREAK}", furniture.scene_breaks),
    )
    in_ascii = Mending("punctuation", "wrote quotes, dashes and dots in ASCII", _ascii_punctuation)
    return (*rules, in_ascii) if punctuation == "ascii" else rules


# What UTF-8 looks like when it was read in another encoding, and what ftfy mends besides: ligatures, wide letters, escapes.
_MOJIBAKE = re.compile(
    r"[\x1b\x80-\x9f\ufb00-\ufb06\uff01-\uff5e]|[Â-ô][\xa0-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|‚Ä|√[©®°±≥]|вЂ|ΓÇ"
)


@cache
def _ftfy_settings() -> TextFixerConfig:
    import ftfy

    # Tags are another rule's, and so are quotes: whoever wants them curly keeps them.
    return ftfy.TextFixerConfig(explain=False, unescape_html=False, uncurl_quotes=False)


def _encoding(text: str) -> str:
    """Only lines that look suspicious go to ftfy, which is slow; other text is only brought into composed form."""
    if text.isascii() and "\x1b" not in text:
        return text
    if _MOJIBAKE.search(text):
        import ftfy

        lines = text.split("\n")
        text = "\n".join(ftfy.fix_text(line, _ftfy_settings()) if _MOJIBAKE.search(line) else line for line in lines)
    return unicodedata.normalize("NFC", text)


_LINE_ENDS = str.maketrans({"\x0b": "\n", "\x0c": "\n", "\u2028": "\n", "\u2029": "\n\n"})
_NO_WIDTH = "\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufff9-\ufffc"
_CONTROLS = re.compile(f"[\x00-\x08\x0e-\x1f\x7f-\x9f{_NO_WIDTH}]")
_ASCII_CONTROLS = bytes(code for code in (*range(32), 127) if chr(code) not in "\t\n\r")


def _control_characters(text: str) -> str:
    """Form feeds and their like are line ends; what is left has no meaning in a story. ASCII text is asked in one pass."""
    if text.isascii() and len(text.encode().translate(None, _ASCII_CONTROLS)) == len(text):
        return text
    if any(end in text for end in "\x0b\x0c\u2028\u2029"):
        text = text.translate(_LINE_ENDS)
    return _CONTROLS.sub("", text)


_HIDDEN = re.compile(r"<!--|<(?:script|style)\b[^<>]{0,1000}>", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"</?(?:p|div|br|hr|h[1-6]|li|ul|ol|tr|td|table|blockquote|pre|section|article|head|body|html|title)\b[^<>]{0,1000}>",
    re.IGNORECASE,
)
_INLINE_TAG = re.compile(
    r"</?(?:a|abbr|b|big|center|cite|code|em|font|i|img|ins|del|q|s|small|span|strike|strong|sub|sup|tt|u)\b[^<>]{0,1000}>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8}\d{0,2});", re.IGNORECASE)


def _markup(text: str) -> str:
    if "<" in text and ">" in text:
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n\n", _without_hidden(text)))
    if "&" in text:
        for _ in range(2):  # &amp;quot; was escaped twice
            text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return text


def _without_hidden(text: str) -> str:
    """Text without comments, scripts and styles; one that never ends is left."""
    parts: list[str] = []
    done = 0
    for match in _HIDDEN.finditer(text):
        closing = "-->" if match[0] == "<!--" else f"</{match[0][1:].split('>')[0].split()[0]}>"
        if match.start() >= done:
            end = text.find(closing, match.end())
            if end < 0:
                break
            parts.append(text[done : match.start()])
            done = end + len(closing)
    return "".join([*parts, text[done:]])


_LINK = re.compile(r"[\[(<*-]* ?(?:https?://|www\.)\S+[\])>]*")


def _links(text: str) -> str:
    if "://" not in text and "www." not in text:
        return text
    return "\n".join(line for line in text.split("\n") if not _LINK.fullmatch(line))


_WIDTHS = range(50, 101)
_NEARLY = 0.7


def _wrapped_lines(text: str) -> str:
    """Lines are wrapped where most that don't end a paragraph reach near the longest, and that is short; verse doesn't."""
    lines = text.split("\n")
    inner = [len(line) for line, after in pairwise(lines) if line and after]
    width = max(map(len, lines))
    full = _NEARLY * width
    if not inner or width not in _WIDTHS or sum(length >= full for length in inner) < _NEARLY * len(inner):
        return text
    paragraphs = [paragraph.split("\n") for paragraph in text.split("\n\n")]
    return "\n\n".join(
        join_wrapped(part, has_verse=False) if all(len(line) >= full for line in part[:-1]) else "\n".join(part)
        for part in paragraphs
    )


_EMPHASIS = re.compile(r"(?<![\w*])(_|\*{1,3})(?=[^\s*_])([^*_\n]{1,400}?)(?<=\S)\1(?![\w*])")


def _emphasis(text: str) -> str:
    return _EMPHASIS.sub(r"\2", text) if "_" in text or "*" in text else text


_ASCII = {
    **dict.fromkeys("‘’‚‛′‹›ʻʼʽ`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–−", "-"),
    **dict.fromkeys("—―⸺", "--"),
    "⸻": "---",
    "…": "...",
    "⋯": "...",
    "‥": "..",
}


def _ascii_punctuation(text: str) -> str:
    """As the project's own stories have it. An en dash between spaces is a dash, else a hyphen; ``such quotes'' are quotes."""
    if text.isascii() and "`" not in text:
        return text
    if "``" in text:
        text = text.replace("``", '"').replace("''", '"')
    text = text.replace(" – ", " -- ")
    for mark, plain in _ASCII.items():  # five times as fast as str.translate, as most marks are not there
        text = text.replace(mark, plain)
    return text
