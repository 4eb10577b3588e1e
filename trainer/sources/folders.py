"""Which files of a folder are sources, in an order that is the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.sources.columnar import is_saved_data_set
from trainer.sources.ebooks import is_checkout

SUFFIXES = (
    *(f"{suffix}{packed}" for suffix in (".txt", ".jsonl", ".csv", ".tsv") for packed in ("", ".gz")),
    ".parquet",
    ".epub",
)
_PAPERS = ("readme", "license", "licence", "copying", "notice", "changelog", "requirements")
"""Text files that come with data, and are none of it."""


def is_source_file(path: Path) -> bool:
    """Tell a file by the end of its name."""
    return path.name.lower().endswith(SUFFIXES)


def is_source_folder(path: Path) -> bool:
    """Tell a folder that is one source as a whole."""
    return is_checkout(path) or is_saved_data_set(path)


def sources_in(folder: Path) -> Iterator[Path]:
    """Files, and folders that are one source, by name; links to folders and hidden names are not followed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if is_source_folder(path):
                yield path
            elif not path.is_symlink():
                yield from sources_in(path)
        elif is_source_file(path) and path.is_file():
            yield path


def passed_over(path: Path, note: Callable[[str], None]) -> bool:
    """Tell a README or a licence among the texts of a folder, and say so."""
    found = ".txt" in path.name.lower() and path.name.lower().partition(".")[0] in _PAPERS
    if found:
        note(f"{path} is passed over: by its name it is about the data, and none of it. To read it, name it.")
    return found
