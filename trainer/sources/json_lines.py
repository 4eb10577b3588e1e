"""JSON Lines: one object with fields a line, plain or gzipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from trainer.errors import CorpusError
from trainer.sources.lines import Lines
from trainer.sources.options import ReadOptions
from trainer.sources.records import Records
from trainer.sources.source_text import SourceText


def read_json_lines(path: Path, held_out: bool, options: ReadOptions, *, in_folder: bool = False) -> Iterator[SourceText]:
    """The texts of a file. A line that is no record is told of and left out."""
    records = Records(str(path), held_out, options, in_folder=in_folder)
    lines = Lines(path, options)
    empty = True
    for line in lines:
        if not (line := line.strip()):
            continue
        origin = f"{path}:{lines.number}"
        if empty and line.startswith("["):
            options.fault(
                f"{origin} is JSON but not an object with fields: an array begins there. "
                f"Write one record a line, as by: jq -c '.[]' {path}"
            )
            return
        empty = False
        try:
            record = _record(line, origin)
        except CorpusError as error:
            options.fault(str(error))
            continue
        if text := records.read(record, origin):
            yield text
        if records.passed_over:
            return
    records.finish()


def _record(line: str, origin: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{origin} is not JSON ({error.msg} at column {error.colno}): mend the line.") from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{origin} is not JSON that can be read ({str(error)[:80]}): mend the line.") from None
    if not isinstance(record, dict):
        raise CorpusError(f'{origin} is JSON but not an object with fields: write {{"text": …}} lines.')
    return cast("dict[str, Any]", record)
