"""Write the chosen passages: as data sets that training maps into memory, and as text, one story a line.

DIR/train, DIR/held_out    what `datasets` saves and loads (load_from_disk)
NAME.txt                   the stories to learn from: [TAG] prompt\\nstory, line breaks written out
held-out-NAME.txt          those to be asked about, named so that a training never learns from them

The same rows give the same bytes: nothing in the files tells the time or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.corpus.staged import Staged
from trainer.prompts import PromptFinder
from trainer.sources.story_lines import to_line

Indices = NDArray[np.int64]
COLUMNS = {
    "text": "string",
    "genre": "string",
    "prompt": "string",
    "own_prompt": "bool",
    "title": "string",
    "book": "string",
    "source": "string",
    "origin": "string",
    "author": "string",
    "licence": "string",
    "attribution": "string",
}


class Rows:
    """The rows of a corpus, made from staged passages a batch at a time: each gets its genre and a prompt."""

    def __init__(self, staged: Staged, genres: NDArray[np.object_], finder: PromptFinder, seed: int) -> None:
        """`genres` has the tag of each staged passage, whoever gave it."""
        self._staged = staged
        self._genres = genres
        self._finder = finder
        self._seed = seed

    def batches(self, indices: Indices) -> Iterator[list[dict[str, Any]]]:
        """The rows of these passages, in this order."""
        numbers = iter(indices.tolist())
        for rows in self._staged.batches(indices):
            yield [self._row(next(numbers), row) for row in rows]

    def _row(self, index: int, passage: dict[str, Any]) -> dict[str, Any]:
        own = passage["prompt"] is not None
        prompt = passage["prompt"]
        if not own:
            sources = self._finder.find(passage["text"], title=passage["title"])
            prompt = sources.draw(Random(f"{self._seed} {index}"))
        row = {name: passage.get(name) for name in COLUMNS}
        return {**row, "genre": self._genres[index], "prompt": prompt, "own_prompt": own}


def write_data_sets(rows: Rows, splits: dict[str, Indices], folder: Path, fingerprint: str) -> None:
    """Save the splits under `folder`, which must not exist. An empty one is left out: nothing could load it. Raises OSError."""
    from datasets import Dataset, DatasetDict, DatasetInfo, Features, Value
    from datasets.table import MemoryMappedTable
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    features = Features({name: Value(kind) for name, kind in COLUMNS.items()})
    found: dict[str, Dataset] = {}
    for name, indices in splits.items():
        if not len(indices):
            continue
        staged = folder.with_name(f"{folder.name}-{name}.arrow")
        with pa.OSFile(str(staged), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as writer:
            for batch in rows.batches(indices):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=features.arrow_schema))
        table = MemoryMappedTable.from_file(str(staged))
        # A fingerprint of our own: one that is made up would differ each time.
        found[name] = Dataset(table, info=DatasetInfo(features=features), fingerprint=f"{fingerprint}-{name}")
    cast("Any", DatasetDict)(found).save_to_disk(str(folder))


def write_text(rows: Rows, indices: Indices, path: Path) -> None:
    """Write the stories one a line; the file is there whole or not at all. Raises OSError."""
    staged = path.with_name(f"{path.name}.new")
    with staged.open("w", encoding="utf-8", newline="\n") as file:
        for batch in rows.batches(indices):
            file.writelines(f"{to_line(row['genre'], row['prompt'], row['text'])}\n" for row in batch)
    staged.replace(path)
