"""Predictions as Parquet. Chunks are Arrow streams, merged into one file at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from resnetkit.errors import require
from resnetkit.files import atomic, utf8
from resnetkit.inference.engines.engine import Output
from resnetkit.inference.prediction import Prediction

#: Minimum bytes of a row group, except the last.
GROUP = 32 << 20


class Parquet:
    """One row per image: ``image``, ``problem``, and ``classes`` with ``probabilities``, best
    first, or ``embedding``, float32."""

    head = b""

    def __init__(self, output: Output, features: int) -> None:
        self._arrow = pyarrow = require("pyarrow", "Parquet")
        self._embeds = output == "embeddings"
        columns = [("image", pyarrow.string()), ("problem", pyarrow.string())]
        if self._embeds:
            columns += [("embedding", pyarrow.list_(pyarrow.float32(), features))]
        else:
            columns += [
                ("classes", pyarrow.list_(pyarrow.string())),
                ("probabilities", pyarrow.list_(pyarrow.float32())),
            ]
        self._schema = pyarrow.schema(columns)

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        if not rows:
            return b""
        sink = self._arrow.BufferOutputStream()
        with self._arrow.ipc.new_stream(sink, self._schema) as stream:
            stream.write_table(self.table(rows))
        return bytes(sink.getvalue())

    def table(self, rows: Sequence[Prediction]) -> Any:
        """The rows as a ``pyarrow.Table``."""
        columns: dict[str, list[Any]] = {
            "image": [utf8(row.name) for row in rows],
            "problem": [row.problem and utf8(row.problem) for row in rows],
        }
        if self._embeds:
            columns["embedding"] = [row.embedding for row in rows]
        else:
            columns["classes"] = [[utf8(g.label) for g in row.scores] for row in rows]
            columns["probabilities"] = [[g.probability for g in row.scores] for row in rows]
        return self._arrow.table(columns, schema=self._schema)

    def tail(self, *, empty: bool) -> bytes:
        return b""

    def convert(self, part: Path, target: Path) -> bool:
        import pyarrow.parquet

        with (
            atomic(target) as temporary,
            pyarrow.parquet.ParquetWriter(temporary, self._schema) as writer,
        ):
            for table in self._groups(part):
                writer.write_table(table)
        return True

    def _groups(self, part: Path) -> Iterator[Any]:
        tables: list[Any] = []
        with part.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(0)
            while file.tell() < end:
                tables.append(self._arrow.ipc.open_stream(file).read_all())
                if sum(table.nbytes for table in tables) >= GROUP:
                    yield self._arrow.concat_tables(tables).combine_chunks()
                    tables = []
        yield self._arrow.concat_tables(tables or [self._schema.empty_table()]).combine_chunks()
