"""E-books: an EPUB file, and a Standard Ebooks checkout, which is an EPUB that is not zipped.

lxml reads both, by the package document that they share. EbookLib, the one library for EPUB that is widely used, was left
aside: its licence is the AGPL, which the users of this project would inherit; it loads every picture of a book into memory; it
gives up on a book whose manifest names a file that is not there (its issue 281); and it reads no checkout. The price is to
know the reading order and the metadata (`package`) and what is no story (`xhtml`) ourselves.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainer.sources import not_story
from trainer.sources.markup import NotMarkup, parse_document, parse_xml
from trainer.sources.options import ReadOptions
from trainer.sources.package import Package, parse_package
from trainer.sources.source_text import SourceText, clean, genre_of, what_is_no_text
from trainer.sources.xhtml import chapters, is_left_out

CHECKOUT_PACKAGE = "src/epub/content.opf"
LONGEST_PART = 64 * 2**20
"""Bytes of one document, unpacked. More is no chapter but a trap."""
_FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Encryption of fonts, which free books have too."""

ReadPart = Callable[[str], bytes]
"""A part's bytes by its path. Raises NotThere."""


class NotThere(Exception):
    """A part that can't be read, with the reason."""


def is_checkout(folder: Path) -> bool:
    """Tell a Standard Ebooks repository."""
    return (folder / CHECKOUT_PACKAGE).is_file()


def read_checkout(folder: Path, held_out: bool, options: ReadOptions) -> Iterator[SourceText]:
    """The chapters of a Standard Ebooks checkout."""

    def read_part(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise NotThere(error.strerror or str(error)) from None

    yield from _Book(folder, held_out, options, read_part).texts(CHECKOUT_PACKAGE)


def read_epub(path: Path, held_out: bool, options: ReadOptions) -> Iterator[SourceText]:
    """The chapters of an EPUB file."""
    try:
        with zipfile.ZipFile(path) as archive:

            def read_part(name: str) -> bytes:
                return _unpack(archive, name)

            book = _Book(path, held_out, options, read_part)
            if _is_protected(read_part) or any(member.flag_bits & 1 for member in archive.infolist()):
                options.fault(f"{path} is protected (DRM): its text can't be read. Use an edition without protection.")
            elif (package := _package_path(read_part)) is None:
                options.fault(f"{path} is a zip file but no EPUB (it names no package document): check what it is.")
            else:
                yield from book.texts(package)
    except zipfile.BadZipFile as error:
        options.fault(f"{path} is no EPUB, which is a zip file ({error}): copy it again, or rename it to what it is.")
    except OSError as error:
        options.fault(f"{path} can't be read: {error.strerror or error}.")


def _unpack(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        if archive.getinfo(name).file_size > LONGEST_PART:
            raise NotThere(f"it is larger than {LONGEST_PART // 2**20} MB")
        return archive.read(name)
    except KeyError:
        raise NotThere("it is not in the file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise NotThere(str(error)) from None


def _xml(read_part: ReadPart, name: str) -> Any | None:
    try:
        return parse_xml(read_part(name))
    except (NotThere, NotMarkup):
        return None


def _package_path(read_part: ReadPart) -> str | None:
    """Where the package document is, by META-INF/container.xml."""
    container = _xml(read_part, "META-INF/container.xml")
    roots = [] if container is None else container.iter("{*}rootfile")
    return next((path for root in roots if (path := root.get("full-path"))), None)


def _is_protected(read_part: ReadPart) -> bool:
    encryption = _xml(read_part, "META-INF/encryption.xml")
    methods = [] if encryption is None else encryption.iter("{*}EncryptionMethod")
    return any(method.get("Algorithm") not in _FONTS_ONLY for method in methods)


class _Book:
    """One book being read."""

    def __init__(self, path: Path, held_out: bool, options: ReadOptions, read_part: ReadPart) -> None:
        self.path = path
        self.held_out = held_out
        self.options = options
        self.read_part = read_part

    def texts(self, package_path: str) -> Iterator[SourceText]:
        """One text for each chapter."""
        try:
            package = parse_package(self.read_part(package_path), package_path)
        except (NotThere, ValueError) as error:
            self.options.fault(f"{self.path}: its package document {package_path} can't be read ({error}): get it again.")
            return
        number = 0
        for part in package.parts:
            for title, text in self._chapters(part, package):
                number += 1
                yield self._text(package, title, text, f"{self.path} chapter {number}")
        if not number:
            self.options.fault(f"{self.path} has no chapter with text: it may be a book of pictures.")

    def _chapters(self, part: str, package: Package) -> Iterator[tuple[str, str]]:
        """Title and text of each chapter in one document."""
        try:
            root = parse_document(self.read_part(part))
        except (NotThere, NotMarkup) as error:
            self.options.fault(f"{self.path}: its part {posixpath.basename(part)} can't be read ({error}); the others are.")
            return
        if is_left_out(root):
            return
        for chapter in chapters(root, package.title):
            text = clean(chapter.text)
            if problem := what_is_no_text(text):
                self.options.fault(f"{self.path}: its part {posixpath.basename(part)} {problem}.")
            elif text and not not_story.by_heading(chapter.heading):
                yield chapter.title, text

    def _text(self, package: Package, title: str, text: str, origin: str) -> SourceText:
        return SourceText(
            text,
            genre_of(package.labels),
            None,
            title or None,
            package.book or self.path.name,
            self.held_out,
            package.labels,
            origin,
            package.licence,
            package.author,
        )
