"""croissant.json of a repository: Croissant 1.1 with the fields of responsible AI that apply.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html and croissant-rai-spec.html.
All of it follows from the datasheet and the files, so who made the release and when is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from src.bundle import card, licences
from src.bundle.rendering import shown

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
CONFORMS_TO = [
    "http://mlcommons.org/croissant/1.1",
    "http://mlcommons.org/croissant/RAI/1.0",
]
UNDATED = "1980-01-01"  # as the files: when a release was made is not recorded
SHARDS = "shards"
FORMATS = {".parquet": "application/x-parquet", ".json": "application/json"}


class File(NamedTuple):
    """A file of a repository."""

    name: str  # data/train-00000-of-00001.parquet
    size: int  # bytes
    sha256: str


def described(sheet: Mapping[str, Any], files: Sequence[File]) -> dict[str, Any]:
    """The content of croissant.json.

    Args:
        files: all others except README.md and SHA256SUMS; the shards are the .parquet files.
    """
    release, dataset = shown(sheet["release"]), shown(sheet["dataset"])
    about = f"{sheet['rows']} anonymized embeddings ({release}) of the dataset {dataset}."
    fingerprint = sheet["fingerprints"]["rows"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": f"{dataset}-{release}",
        "description": " ".join(filter(None, (about, shown(sheet["description"])))),
        "license": _license(sheet["license"]),
        "version": "1.0.0",
        "datePublished": UNDATED,
        "citeAs": f"@misc{{{fingerprint}, title={{{release} of {dataset}}}, "
        f"note={{anonymized embeddings, fingerprint {fingerprint}}}}}",
        "keywords": ["embeddings", "anonymized", shown(sheet["anonymizer"])],
        "isLiveDataset": False,
        **_responsible(sheet),
        "distribution": _distribution(files),
        "recordSet": [_classes(sheet), _rows(sheet, files)],
    }


def _license(text: str) -> str:
    known = {**licences.ADDRESSES, **licences.RESTRICTED}
    return known.get(licences.identifier(shown(text)), shown(text))


def _responsible(sheet: Mapping[str, Any]) -> dict[str, Any]:
    backbone, dataset = shown(sheet["backbone"]), shown(sheet["dataset"])
    how = json.dumps(sheet["preprocessing"], sort_keys=True)
    made = json.dumps({"anonymizer": sheet["anonymizer"], "settings": sheet["settings"]})
    counts = ", ".join(f"{shown(c['name'])}: {c['rows']}" for c in sheet["classes"])
    stated = "; ".join(map(shown, sheet["stated"]))
    return {
        "rai:dataCollection": f"Nothing was collected for this release: the images of {dataset} "
        f"were embedded by the backbone {backbone}, and the training rows anonymized.",
        "rai:dataCollectionType": ["Software Collection"],
        "rai:dataPreprocessingProtocol": [f"images to embeddings: {how}"],
        "rai:dataManipulationProtocol": f"embeddings to anonymized rows: {made}",
        "rai:dataUseCases": [
            "training and validation of classifiers of these classes, whose inputs are "
            f"embeddings by the same backbone ({backbone}) with the same preprocessing",
            "not for decisions on single persons, and not for attempts to identify them",
        ],
        "rai:dataLimitations": [
            f"stated by whoever made the release, not checked: {stated}",
            "rows by another backbone or preprocessing cannot be classified with it",
            *map(str, licences.origins(sheet)),
        ],
        "rai:dataBiases": [f"rows per class: {counts}"],
        "rai:personalSensitiveInformation": [
            "The original rows may be of persons; no original row and no image is in here.",
            f"Privacy promise: {shown(sheet['guarantee'])}",
            f"Checked with the files: {'; '.join(map(shown, sheet['shown']))}",
        ],
        "rai:dataReleaseMaintenancePlan": "A release does not change: its rows have the "
        f"fingerprint {sheet['fingerprints']['rows']}, and other rows are another release.",
    }


def _distribution(files: Sequence[File]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": file.name,
            "contentSize": f"{file.size} B",
            "encodingFormat": FORMATS.get(file.name[file.name.rfind(".") :], "text/plain"),
            "sha256": file.sha256,
        }
        for file in files
    ]
    if len(_shards(files)) > 1:
        found.append(
            {
                "@type": "cr:FileSet",
                "@id": SHARDS,
                "name": SHARDS,
                "encodingFormat": FORMATS[".parquet"],
                "includes": "data/*.parquet",  # beside croissant.json
            }
        )
    return found


def _shards(files: Sequence[File]) -> list[str]:
    return [file.name for file in files if file.name.endswith(".parquet")]


def _classes(sheet: Mapping[str, Any]) -> dict[str, Any]:
    """The classes as an enumeration, to which the rows' labels refer."""
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [_field("classes/label", "sc:Integer"), _field("classes/name", "sc:Text")],
        "data": [
            {"classes/label": label, "classes/name": name}
            for label, name in enumerate(card.class_names(sheet))
        ],
    }


def _rows(sheet: Mapping[str, Any], files: Sequence[File]) -> dict[str, Any]:
    shards = _shards(files)
    several = len(shards) > 1
    source = {"fileSet": {"@id": SHARDS}} if several else {"fileObject": {"@id": shards[0]}}
    vector = {"isArray": True, "arrayShape": str(sheet["dimensions"])}
    label = {"references": {"field": {"@id": "classes/label"}}}
    return {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "name": "rows",
        "field": [
            _field("rows/embedding", "sc:Float", source, vector),
            _field("rows/label", "sc:Integer", source, label),
        ],
    }


def _field(
    name: str,
    kind: str,
    source: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    found = {"@type": "cr:Field", "@id": name, "name": name, "dataType": kind, **(more or {})}
    if source:
        found["source"] = {**source, "extract": {"column": name.partition("/")[2]}}
    return found
