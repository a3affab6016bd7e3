"""README.md of a repository: a head that dataset hubs read, and the datasheet as its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from src.bundle import licences, rendering
from src.bundle.rendering import shown

SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
USE = """\
## In this repository

`data/*.parquet` holds the rows of `train.npz`: `embedding` (list of {dimensions} float32) and
`label` (int64, the classes above). `datasheet.json` says the same as this text, for programs.

```python
datasets.load_dataset("REPO")
pandas.read_parquet("REPO/data")
polars.read_parquet("REPO/data/*.parquet")
numpy.stack(pyarrow.parquet.read_table("REPO/data")["embedding"].to_numpy())
```

`python -m src.bundle import REPO --output DIR` checks everything and gives the bundle back."""


def class_names(sheet: Mapping[str, Any]) -> list[str]:
    """The names of the classes; with their numbers where two have one name."""
    names = [shown(entry["name"]) for entry in sheet["classes"]]
    if len(set(names)) == len(names):
        return names
    return [f"{label}: {name}" for label, name in enumerate(names)]


def render(sheet: Mapping[str, Any]) -> str:
    """The text of README.md; it follows from the datasheet alone."""
    head = yaml.safe_dump(_head(sheet), sort_keys=False, allow_unicode=True, width=1000)
    parts = [f"---\n{head}---", rendering.render(sheet).rstrip("\n"), "## Licences"]
    parts += [_licences(sheet), USE.format(**sheet)]
    return "\n\n".join(parts) + "\n"


def _head(sheet: Mapping[str, Any]) -> dict[str, Any]:
    names = dict(enumerate(class_names(sheet)))
    return {
        **_license(sheet["license"]),
        "pretty_name": f"{shown(sheet['release'])} of {shown(sheet['dataset'])}",
        "task_categories": ["tabular-classification"],
        "size_categories": [SIZES[min(len(SIZES) - 1, max(0, len(str(sheet["rows"])) - 3))]],
        "tags": ["embeddings", "anonymized", shown(sheet["anonymizer"])],
        "dataset_info": {
            "features": [
                {"name": "embedding", "sequence": "float32", "length": sheet["dimensions"]},
                {
                    "name": "label",
                    "dtype": {"class_label": {"names": {str(k): v for k, v in names.items()}}},
                },
            ],
            "splits": [
                {
                    "name": "train",
                    "num_bytes": sheet["rows"] * (4 * sheet["dimensions"] + 8),
                    "num_examples": sheet["rows"],
                }
            ],
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*"}],
            }
        ],
    }


def _license(text: str) -> dict[str, str]:
    """What hubs read of a licence: its name, or `other` with the text."""
    found = licences.identifier(shown(text))
    if found in licences.ADDRESSES or found in licences.RESTRICTED:
        return {"license": found}
    if found == licences.NOT_STATED:
        return {"license": licences.UNKNOWN}
    return {"license": "other", "license_name": found}


def _licences(sheet: Mapping[str, Any]) -> str:
    lines: Sequence[str] = [f"this release: {shown(sheet['license'])}"]
    return "\n".join(f"- {line}" for line in [*lines, *map(str, licences.origins(sheet))])
