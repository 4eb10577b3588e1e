"""EPUB files and Standard Ebooks checkouts, small ones made on the spot."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from trainer.errors import CorpusError
from trainer.sources.markup import parse_document
from trainer.sources.reading import SourceText, units
from trainer.sources.xhtml import chapters

CONTAINER = """<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
METADATA = """<dc:title>The Lamp</dc:title><dc:creator id="a">A. Writer</dc:creator>
<dc:creator id="t">T. Rans</dc:creator><meta refines="#t" property="role">trl</meta>
<dc:subject>Horror tales</dc:subject><dc:rights>CC BY 4.0</dc:rights>"""
PARTS = {
    "cover.xhtml": "<p>Cover.</p>",
    "nav.xhtml": "<nav><ol><li><a href='one.xhtml'>One</a></li></ol></nav>",
    "titlepage.xhtml": "<h1>The Lamp</h1><p>A. Writer</p>",
    "list.xhtml": "<h2>What is in it</h2><p><a href='one.xhtml'>The Door</a></p><p><a href='two.xhtml'>The Road</a></p>",
    "one.xhtml": """<section epub:type="chapter"><hgroup><h2 epub:type="ordinal z3998:roman">I</h2>
        <p epub:type="title">The Door</p></hgroup>
        <p>The door&nbsp;opened\n and <i>nobody</i> was\u2060\u2014there.<a href="notes.xhtml#n1" epub:type="noteref">1</a></p>
        <hr/><blockquote><p><span>A light,</span><br/><span>a light.</span></p></blockquote>
        <figure><img alt="A lamp"/><figcaption>A lamp.</figcaption></figure>
        <h3>Later</h3><p><img alt="I"/>t rained.<sup><a href="#f">2</a></sup></p>
        <p><span class="pagenum">[12]</span>* * *</p><div class="footnotes"><p>A note.</p></div></section>""",
    "two%20.xhtml": "<h1>The Lamp</h1><h2>CHAPTER II.<br/>The Road</h2><p>They went.</p><h2>CHAPTER III</h2><p>They came.</p>",
    "endnotes.xhtml": "<p>1. A note.</p>",
    "colophon.xhtml": "<p>Made by hand.</p>",
    "last.xhtml": "<section epub:type='backmatter'><p>Also by A. Writer.</p></section><h2>Footnotes:</h2><p>A note.</p>",
}


def document(body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title/></head><body>{body}</body></html>'
    )


def package(parts: list[str], metadata: str = METADATA, folder: str = "") -> str:
    names = {part: f"i{number}" for number, part in enumerate(parts)}
    items = "".join(
        f'<item id="{name}" href="{folder}{part}" media-type="application/xhtml+xml" properties="{part.partition(".")[0]}"/>'
        for part, name in names.items()
    )
    spine = "".join(f'<itemref idref="{name}"/>' for name in names.values())
    return (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">{metadata}</metadata>'
        f'<manifest>{items}<item id="css" href="a.css" media-type="text/css"/></manifest>'
        f'<spine>{spine}<itemref idref="nowhere"/></spine></package>'
    )


def epub(path: Path, parts: dict[str, str] | None = None, **more: str) -> Path:
    parts = PARTS if parts is None else parts
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/content.opf", package(list(parts)))
        for name, body in parts.items():
            archive.writestr(f"OEBPS/{name.replace('%20', ' ')}", document(body))
        for name, content in more.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def read(path: Path, bad: list[str] | None = None) -> list[SourceText]:
    told = bad.append if bad is not None else None
    return [text for unit in units(str(path)) for text in unit.read(bad=told)]


def test_an_epub_is_read_by_chapters_and_what_is_not_told_is_left_out(tmp_path: Path) -> None:
    path = epub(tmp_path / "lamp.epub")
    one, two, three = read(path)
    assert one.title == "The Door"
    assert one.text.split("\n\n") == [
        "The door opened and nobody was—there.",
        "* * *",
        "A light,\na light.",
        "* * *",
        "It rained.",
    ]
    assert [(text.title, text.text) for text in (two, three)] == [("The Road", "They went."), (None, "They came.")]
    assert {text.book for text in (one, two, three)} == {"A. Writer/The Lamp"}
    assert (one.author, one.licence, one.labels, one.genre) == ("A. Writer", "CC BY 4.0", ("Horror tales",), "HORROR-TALES")
    assert [text.origin for text in (one, two, three)] == [f"{path} chapter {number}" for number in (1, 2, 3)]


STANDARD = """<dc:identifier>https://standardebooks.org/ebooks/a-writer/the-lamp</dc:identifier><dc:title>The Lamp</dc:title>
<dc:creator>A. Writer</dc:creator><dc:subject>Lamps -- Fiction</dc:subject><meta property="se:subject">Fantasy</meta>
<meta property="se:subject">Shorts</meta><dc:rights>Dedicated by the terms in the CC0 1.0 Universal Public Domain
Dedication.</dc:rights>"""


def checkout(folder: Path) -> Path:
    text = folder / "src/epub/text"
    text.mkdir(parents=True)
    names = ["titlepage.xhtml", "chapter-2.xhtml", "chapter-1.xhtml", "endnotes.xhtml", "uncopyright.xhtml"]
    (folder / "src/epub/content.opf").write_text(package(names, STANDARD, "text/"), encoding="utf-8")
    for name in names:
        (text / name).write_text(document(f"<section><h2>I</h2><p>From {name}.</p></section>"), encoding="utf-8")
    (folder / "README.txt").write_text("Not a story.\n", encoding="utf-8")
    return folder


def test_a_standard_ebooks_checkout_is_read_in_its_reading_order(tmp_path: Path) -> None:
    texts = read(checkout(tmp_path / "a-writer_the-lamp"))
    assert [text.text for text in texts] == ["From chapter-2.xhtml.", "From chapter-1.xhtml."]
    assert texts[0].labels == ("Fantasy", "Shorts", "Lamps -- Fiction")
    assert texts[0].licence == "CC0-1.0"
    assert texts[0].book == "standardebooks/a-writer_the-lamp/The Lamp"


def test_a_folder_of_checkouts_and_epubs_is_read_by_its_books(tmp_path: Path) -> None:
    checkout(tmp_path / "b")
    checkout(tmp_path / "test" / "c")
    epub(tmp_path / "a.epub")
    assert [Path(unit.name).name for unit in units(str(tmp_path))] == ["a.epub", "b", "c"]
    assert [text.held_out for text in read(tmp_path)] == [False] * 5 + [True] * 2


ENCRYPTION = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">
<enc:EncryptedData><enc:EncryptionMethod Algorithm="{}"/></enc:EncryptedData></encryption>"""


def test_an_epub_that_cant_be_read_is_told_of_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(b"<html>no zip</html>")
    (tmp_path / "b.epub").write_bytes(b"")
    drm = ENCRYPTION.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")
    epub(tmp_path / "c.epub", **{"META-INF__encryption.xml": drm})
    with zipfile.ZipFile(tmp_path / "d.epub", "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    with zipfile.ZipFile(tmp_path / "e.epub", "w") as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/content.opf", "<package")
    epub(tmp_path / "f.epub", {"one.xhtml": "<img src='a.png'/>"})
    epub(tmp_path / "g.epub", **{"META-INF__encryption.xml": ENCRYPTION.format("http://www.idpf.org/2008/embedding")})
    bad: list[str] = []
    assert len(read(tmp_path, bad)) == 3
    says = [
        "a.epub is no EPUB",
        "b.epub is no EPUB",
        "c.epub is protected (DRM)",
        "no EPUB (it names no package",
        "can't be read",
    ]
    for sentence, said in zip(bad, [*says, "f.epub has no chapter with text"], strict=True):
        assert said in sentence
    with pytest.raises(CorpusError, match="which is a zip file"):
        read(tmp_path)


def test_a_part_that_is_missing_or_damaged_costs_only_itself(tmp_path: Path) -> None:
    parts = {"one.xhtml": "<p>One.</p>", "two.xhtml": "<p>Two.</p>", "three.xhtml": "<p>Three.</p>"}
    path = epub(tmp_path / "a.epub", parts)
    damaged = path.read_bytes().replace(b"<p>Two.</p>", b"<p>Tw0.</p>")
    path.write_bytes(damaged)
    bad: list[str] = []
    assert [text.text for text in read(path, bad)] == ["One.", "Three."]
    assert "its part two.xhtml can't be read (Bad CRC" in bad[0]


def test_a_document_that_is_no_xml_is_read_as_browsers_do() -> None:
    root = parse_document("<html><body><p>Caf\u00e9 &amp; <b>tea<p>Two &mdash; three</body>".encode())
    assert [chapter.text for chapter in chapters(root, "")] == ["Caf\u00e9 & tea\n\nTwo \u2014 three"]


def test_no_entity_brings_in_anything_from_outside(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET", encoding="utf-8")
    content = f'<!DOCTYPE html [<!ENTITY x SYSTEM "{secret.as_uri()}">]><html><body><p>A &x; b.</p></body></html>'
    assert "SECRET" not in next(chapters(parse_document(content.encode()), "")).text
