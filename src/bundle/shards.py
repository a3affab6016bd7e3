"""Rows as Parquet shards, written by pyarrow so plainly that `plain.py` can read them.

Columns: `embedding`, a fixed-size list of D float32, and `label`, int64. Nothing is compressed,
encoded by a dictionary or missing, so that a file is at least as large as what it holds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.bundle import plain
from src.core import meta
from src.core.arrays import checked_embeddings, checked_labels
from src.core.errors import DataError, MissingPackageError
from src.core.files import reading
from src.database import EmbeddingSet

REQUIREMENTS = "requirements-share.txt"
SHARD_BYTES = 450_000_000  # of values; with Parquet's levels a file stays below 500 MB
GROUP_BYTES = 1 << 25  # of values in a row group, which readers load at once
META, FEATURES, ARROW = b"meta", b"huggingface", b"ARROW:schema"
# A part of the base64 of `ARROW:extension`, at each of the places that it can have in a text.
EXTENSIONS = [base64.b64encode(b"\0" * at + b"ARROW:extension")[4:-4] for at in range(3)]


def write(folder: Path, rows: EmbeddingSet, class_names: Sequence[str]) -> list[Path]:
    """Write `train-00000-of-0000N.parquet` into a folder; the bytes follow from rows and pyarrow.

    Raises:
        MissingPackageError: pyarrow is not installed.
        DataError: names of classes and `meta` are too long to be read again.
    """
    parquet = _parquet()
    width = 4 * rows.dim + 8
    each = max(1, SHARD_BYTES // width)
    starts = range(0, len(rows), each)
    paths = [folder / f"train-{i:05d}-of-{len(starts):05d}.parquet" for i in range(len(starts))]
    schema = _schema(rows, class_names)
    for path, start in zip(paths, starts, strict=True):
        with parquet.ParquetWriter(
            path,
            schema,
            version="2.6",
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        ) as writer:
            for first in range(start, min(start + each, len(rows)), max(1, GROUP_BYTES // width)):
                last = min(first + max(1, GROUP_BYTES // width), start + each)
                writer.write_table(_table(schema, rows, slice(first, last)))
        if plain.footer_bytes(path) > plain.MOST_FOOTER:
            raise DataError("the names of its classes and its facts are too long for Parquet")
    return paths


def read(paths: Sequence[Path]) -> tuple[EmbeddingSet, str]:
    """The rows in the shards, which anybody may have written, and their features as JSON.

    Raises:
        DataError: not as `write` writes them, or more than their bytes explain.
    """
    tables = [_table_in(path) for path in paths]
    metas, columns = ({t.metadata[key] for t in tables} for key in (META, FEATURES))
    if len(metas) != 1 or len(columns) != 1 or len({t.rows.shape[1] for t in tables}) != 1:
        raise DataError(f"{paths[0].parent}: its files do not belong together")
    with reading(paths[0], "has metadata that is not text"):
        text, told = metas.pop().decode(), columns.pop().decode()
    rows = EmbeddingSet(
        checked_embeddings(paths[0], np.concatenate([table.rows for table in tables])),
        checked_labels(paths[0], np.concatenate([table.labels for table in tables])),
        meta.from_array(paths[0], np.array(text)),
    )
    return rows, told


def features(dim: int, class_names: Sequence[str]) -> str:
    """What the package `datasets` reads of the columns, as JSON."""
    value = {"dtype": "float32", "_type": "Value"}
    columns = {
        "embedding": {"feature": value, "length": dim, "_type": "Sequence"},  # of all versions
        "label": {"names": list(class_names), "_type": "ClassLabel"},
    }
    return json.dumps({"info": {"features": columns}})


def _table_in(path: Path) -> plain.Table:
    """What a file holds, if pyarrow and other readers can be trusted with it, too."""
    table = plain.read(path)
    if any(part in table.footer for part in EXTENSIONS):
        raise DataError(f"{path} has extension types, which could run code; it is not read")
    if table.metadata.keys() != {META, FEATURES, ARROW}:
        odd = sorted(table.metadata.keys() ^ {META, FEATURES, ARROW})[0]
        raise DataError(f"{path} has unexpected or missing metadata: {odd!r:.80}")
    return table


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError(
            f"Parquet files need pyarrow: pip install -r {REQUIREMENTS}"
        ) from error
    return parquet


def _schema(rows: EmbeddingSet, class_names: Sequence[str]) -> Any:
    """The schema, with `meta`, and with the features as the package `datasets` reads them."""
    import pyarrow as pa

    element = pa.field("element", pa.float32(), nullable=False)
    fields = [
        pa.field("embedding", pa.list_(element, rows.dim), nullable=False),
        pa.field("label", pa.int64()),  # `datasets` overlooks the names of a required one
    ]
    text = str(meta.to_array(rows.meta)[()])
    return pa.schema(fields, metadata={META: text, FEATURES: features(rows.dim, class_names)})


def _table(schema: Any, rows: EmbeddingSet, part: slice) -> Any:
    import pyarrow as pa

    values = pa.array(rows.embeddings[part].reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, type=schema.field(0).type)
    return pa.table([lists, pa.array(rows.labels[part])], schema=schema)
