"""Parquet files, and folders that `datasets` has written with save_to_disk: columns, read a batch of rows at a time.

Only the columns that hold something for us are read, and of a file of any size only one batch of rows is in memory (and of
Parquet one row group's pages, which its writer chose).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trainer.sources.columns import ColumnMap
from trainer.sources.held_out import is_held_out
from trainer.sources.options import ReadOptions
from trainer.sources.records import Records
from trainer.sources.source_text import SourceText

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

BATCH_ROWS = 128
"""Chapters of 300 kB make 40 MB of these."""
OWN_PROMPT = "own_prompt"
"""In a corpus that this program wrote: whether the prompt is the text's own, or was drawn for it."""


def read_parquet(path: Path, held_out: bool, options: ReadOptions, *, in_folder: bool = False) -> Iterator[SourceText]:
    """The texts of a Parquet file."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    records = Records(str(path), held_out, options, in_folder=in_folder)
    number = 0
    try:
        with ParquetFile(path) as file:
            names = [str(name) for name in file.schema_arrow.names]
            if (columns := records.check_table(names)) is None:
                return
            for batch in file.iter_batches(BATCH_ROWS, columns=_needed(columns, names)):
                for row in cast("list[dict[str, Any]]", batch.to_pylist()):
                    number += 1
                    if text := records.read(row, f"{path} row {number}"):
                        yield text
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:160]
        options.fault(f"{path} is no Parquet file that can be read, after row {number} ({reason}): write or copy it again.")


def is_saved_data_set(folder: Path) -> bool:
    """Tell a folder that save_to_disk has written."""
    names = ("dataset_info.json", "state.json")
    return (folder / "dataset_dict.json").is_file() or all((folder / name).is_file() for name in names)


def saved_splits(
    folder: Path, options: ReadOptions, held_out: bool = False, *, in_folder: bool = False
) -> Iterator[tuple[Dataset, Records]]:
    """The splits of a folder that save_to_disk has written, memory-mapped: the needed columns of each, and their reader."""
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, IndexError) as error:  # IndexError: of a split without a single row
        reason = str(error).partition("\n")[0][:160]
        options.fault(f"{folder} is no data set that can be loaded ({reason}): write or copy it again.")
        return
    splits = {"": saved} if isinstance(saved, Dataset) else cast("Mapping[str, Dataset]", saved)
    for name, rows in splits.items():
        records = Records(f"{folder} {name}".strip(), held_out or is_held_out(name), options, in_folder=in_folder)
        names = list(rows.column_names)
        if (columns := records.check_table(names)) is not None:
            # Without `source`: a corpus has told its books apart already.
            yield rows.select_columns(_needed(replace(columns, source=None), names)), records


def read_saved_data_set(folder: Path, held_out: bool, options: ReadOptions, *, in_folder: bool = False) -> Iterator[SourceText]:
    """The texts of a folder that save_to_disk has written, split by split."""
    for rows, records in saved_splits(folder, options, held_out, in_folder=in_folder):
        label_names = names_of_classes(cast("Mapping[str, Any]", rows.features))
        number = 0
        for table in rows.with_format("arrow").iter(BATCH_ROWS):
            for row in cast("list[dict[str, Any]]", cast("pa.Table", table).to_pylist()):
                number += 1
                if text := records.read(with_class_names(row, label_names), f"{records.name} row {number}"):
                    yield text


def _needed(columns: ColumnMap, names: list[str]) -> list[str]:
    wanted = {*columns.chosen().values(), OWN_PROMPT}
    return [name for name in names if name in wanted]


def names_of_classes(features: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """For each column that holds classes as numbers: the name of each."""
    return {column: names for column, feature in (features or {}).items() if (names := getattr(feature, "names", None))}


def with_class_names(row: dict[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """The row with the names of its classes for their numbers; -1 stands for none."""
    for column, known in names.items():
        value = row.get(column)
        if isinstance(value, int):
            row[column] = known[value] if 0 <= value < len(known) else None
    return row
