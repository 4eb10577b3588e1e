"""Read story texts from whatever they come in: plain text, JSON Lines (also gzipped), folders of these, a hub data set.

Each text keeps where it was read and which book it belongs to. One bad line ends the reading with its file and number: a
corpus that is silently shorter than its owner believes is worse than one that must be mended first.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from trainer.errors import CorpusError
from trainer.story_format import genre_name, one_line, split_tag

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
HELD_OUT_NAME = re.compile(r"(valid|validation|test|dev|held-?out)([-_.].*)?", re.IGNORECASE)
"""Files of a folder that are named so are never trained on."""
TEXT_FIELDS = ("text", "story")
PROMPT_FIELDS = ("prompt", "title")


@dataclass(frozen=True)
class SourceText:
    """One text as its source has it: a short story, a line, or a chapter of thousands of words."""

    text: str
    """Paragraphs parted by one blank line."""
    genre: str | None
    prompt: str | None
    title: str | None
    book: str
    """What must stay on one side of the split: the book, or the text itself."""
    held_out: bool
    """Named as held-out by its file."""


def read_sources(sources: Sequence[str], note: Callable[[str], None] = lambda _: None) -> Iterator[SourceText]:
    """All texts of all sources, in order. A source is a file, a folder, or a data set's id ("owner/name", "hf:owner/name").

    `note` is told what was passed over. Raises CorpusError.
    """
    for source in sources:
        path = Path(source)
        if path.is_dir():
            yield from _read_folder(path, note)
        elif path.is_file():
            yield from _read_file(path, HELD_OUT_NAME.fullmatch(path.name) is not None)
        elif _names_data_set(source):
            yield from _read_data_set(source.removeprefix("hf:"))
        else:
            raise CorpusError(f"There is no file or folder {source}. Give a path, or a data set's id as hf:owner/name.")


def _names_data_set(source: str) -> bool:
    """Tell "hf:owner/name", or an "owner/name" that can't be meant as a path: a mistyped path must not go out to the hub."""
    if source.startswith("hf:"):
        return True
    path = Path(source)
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", source)) and not source.endswith(SUFFIXES) and not path.parent.exists()


def clean(text: str) -> str:
    """The text with stray white space gone: one blank line between paragraphs, one space between words."""
    paragraphs = re.split(r"\n[^\S\n]*\n", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""))
    lines = (("\n".join(filter(None, map(one_line, part.split("\n"))))) for part in paragraphs)
    return "\n\n".join(part for part in lines if part)


def _read_folder(folder: Path, note: Callable[[str], None]) -> Iterator[SourceText]:
    files = sorted(path for path in folder.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
    if not files:
        raise CorpusError(f"{folder} has no file that ends in {', '.join(SUFFIXES)}: put stories there in one of these.")
    for path in files:
        held_out = any(HELD_OUT_NAME.fullmatch(part) for part in path.relative_to(folder).parts)
        if ".jsonl" in path.suffixes and not _has_text(path):
            note(f"{path} is passed over: its first record has no field {' or '.join(TEXT_FIELDS)}")
            continue
        yield from _read_file(path, held_out)


def _has_text(path: Path) -> bool:
    first = next((record for _, record in _json_lines(path)), None)
    return first is None or any(name in first for name in TEXT_FIELDS)


def _read_file(path: Path, held_out: bool) -> Iterator[SourceText]:
    if ".jsonl" in path.suffixes:
        for number, record in _json_lines(path):
            if text := from_record(record, f"{path}:{number}", held_out):
                yield text
    elif path.name.endswith(SUFFIXES):
        for number, line in _lines(path):
            genre, rest = split_tag(line)
            _check_words(rest, f"{path}:{number}")
            if text := clean(rest):
                yield SourceText(text, genre, None, None, text, held_out)
    else:
        raise CorpusError(f"{path} ends in none of {', '.join(SUFFIXES)}: convert it, or rename it if it is one of these.")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers."""
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, 1):
                if line := raw.decode("utf-8-sig" if number == 1 else "utf-8").strip():
                    yield number, line
    except UnicodeDecodeError as error:
        byte = f"0x{error.object[error.start]:02x}"
        advice = f"save the file as UTF-8{_iconv(path, error)}"
        raise CorpusError(f"{path}:{number} is not UTF-8 (byte {byte}): {advice}.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} is no whole gzip file after line {number} ({error}): copy it again.") from None
    except OSError as error:
        raise CorpusError(f"{path} can't be read: {error.strerror or error}.") from None


def _iconv(path: Path, error: UnicodeDecodeError) -> str:
    """How a plain file becomes UTF-8, as far as its first bytes tell."""
    if path.suffix == ".gz":
        return ""
    encoding = "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
    return f", for instance by: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"


def _check_words(text: str, origin: str) -> None:
    """Raise CorpusError for what is no text: a word without end, which a tokenizer takes minutes for, or half a character."""
    if word := re.search(r"\w{1000,}|\S{20000,}", text):
        raise CorpusError(f"{origin} has a word of {len(word.group()):,} characters: take out what is no prose.")
    if re.search("[\ud800-\udfff]", text):
        raise CorpusError(f"{origin} has half of a character (a lone surrogate): write the text anew, as UTF-8.")


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path}:{number} is not JSON ({error.msg} at column {error.colno}): mend the line.") from None
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}:{number} is not JSON that can be read ({str(error)[:80]}): mend the line.") from None
        if not isinstance(record, dict):
            raise CorpusError(f'{path}:{number} is JSON but not an object with fields: write {{"text": …}} lines.')
        yield number, cast("dict[str, Any]", record)


def from_record(record: Mapping[str, Any], origin: str, held_out: bool) -> SourceText | None:
    """One record's text; None where it is blank. Raises CorpusError at one without a text or with a field of another type."""
    name = next((name for name in TEXT_FIELDS if name in record), None)
    if name is None:
        raise CorpusError(f"{origin} has no field {' or '.join(TEXT_FIELDS)}; it has: {', '.join(record) or 'nothing'}.")
    for field in (name, *PROMPT_FIELDS, "genre", "book"):
        value = record.get(field)
        if not isinstance(value, str) and (field == name or value is not None):
            raise CorpusError(f"{origin}: the field {field} should be text and is {json.dumps(value)[:40]}.")
        _check_words(value or "", origin)
    tag, rest = split_tag(record[name])
    text = clean(rest)
    if not text:
        return None
    label = record.get("genre")
    genre = genre_name(label) if label else tag
    if label and genre is None:
        raise CorpusError(f"{origin}: {label!r} can't be a genre; use letters, digits and hyphens.")
    book = record.get("source") if isinstance(record.get("source"), str) and record.get("book") else None
    return SourceText(
        text,
        genre,
        one_line(record.get("prompt") or "") or None,
        _own_title(record) or None,
        f"{book}/{record['book']}" if book else record.get("book") or text,
        held_out,
    )


def _own_title(record: Mapping[str, Any]) -> str:
    """The title of this text alone: "The Storm" of "Moby Dick, Chapter 9: The Storm", nothing of "Chapter 9"."""
    title = one_line(record.get("title") or "")
    if book := record.get("book"):
        title = title.removeprefix(f"{book}, ") if title != book else title
    title = re.sub(r"^(Chapter|Part|Book|Section)\s+[\dIVXLC]+\s*[:.-]?\s*", "", title, flags=re.IGNORECASE)
    return title if re.search(r"[^\W\d_]{3}", title) else ""


def _read_data_set(name: str) -> Iterator[SourceText]:
    from datasets import load_dataset

    try:
        rows = cast("Iterable[dict[str, Any]]", load_dataset(name, split="train", streaming=True))
        for number, record in enumerate(rows, 1):
            if text := from_record(record, f"{name} row {number}", held_out=False):
                yield text
    except CorpusError:
        raise
    except Exception as error:  # the hub's client raises dozens of types; each means the same to a person
        reason = f"{type(error).__name__}: {one_line(str(error))[:160]}"
        raise CorpusError(
            f"The data set {name} can't be read from the Hugging Face hub ({reason}). "
            "Check the id and the network, or give a file."
        ) from error
