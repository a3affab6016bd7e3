"""Repositories: the same bytes again, what others load from them, and hostile ones."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml

from src.bundle import card, contents, croissant, exchange, plain, shards
from src.core.errors import DataError, MissingPackageError
from src.database import EmbeddingSet
from tests.bundle.support import bundle
from tests.support import files_below

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def repositories(home, tmp_path_factory):
    """The three bundles of `home` as repositories: `<folder>/{cvae,dp,ksame}`."""
    folder = tmp_path_factory.mktemp("repositories")
    for name in ("cvae", "dp", "ksame"):
        done = bundle("export", home / name, "--output", folder / name)
        assert done.status == 0, done.err
    return folder


@pytest.fixture
def repository(repositories, tmp_path):
    """One of them to change."""
    return shutil.copytree(repositories / "ksame", tmp_path / "repository")


def sum_up(folder):
    """New checksums, as whoever changes a file knowingly writes them."""
    names = [name for name in exchange.names(folder) if name != "SHA256SUMS"]
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def refused(folder, message):
    output = folder.parent / "imported"
    done = bundle("import", folder, "--output", output)
    assert done.status == 2, done.out
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err, done.err
    assert not output.exists()
    assert not list(folder.parent.glob(".imported*"))


# There and back.


@pytest.mark.parametrize("name", ["cvae", "dp", "ksame"])
def test_a_bundle_comes_back_byte_for_byte(home, repositories, tmp_path, name):
    done = bundle("import", repositories / name, "--output", tmp_path / "again")
    assert done.status == 0, done.err
    assert contents.read(home / name).sheet["guarantee"] in done.out
    before, after = files_below(home / name), files_below(tmp_path / "again")
    assert {p.name: b for p, b in before.items()} == {p.name: b for p, b in after.items()}
    assert bundle("verify", tmp_path / "again").status == 0


def test_two_exports_are_the_same_bytes_and_times(home, repositories, tmp_path):
    assert bundle("export", home / "dp", "--output", tmp_path / "second").status == 0
    first, second = repositories / "dp", tmp_path / "second"
    assert exchange.names(first) == exchange.names(second)
    for name in exchange.names(first):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
        assert (first / name).stat().st_mtime == contents.EPOCH
    check = ["sha256sum", "--quiet", "--check", "SHA256SUMS"]
    assert subprocess.run(check, cwd=first).returncode == 0


def test_what_a_repository_holds(home, repositories):
    names = [SHARD, "README.md", "SHA256SUMS", "bundle.SHA256SUMS", "croissant.json",
             "datasheet.json", "decoder.safetensors"]  # fmt: skip
    assert exchange.names(repositories / "dp") == sorted(names)
    text = (repositories / "dp" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert (home / "dp" / "datasheet.md").read_text().rstrip("\n") in body
    head = yaml.safe_load(head)
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == ["1K<n<10K"]
    assert head["task_categories"] == ["tabular-classification"]
    names = head["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert names == {str(i): str(i) for i in range(10)}
    schema = pq.read_schema(repositories / "dp" / SHARD)
    assert schema.field("embedding").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), 64
    )
    assert schema.field("label").type == pa.int64()


def test_the_promise_and_the_limits_are_in_croissant(home, repositories):
    content = json.loads((repositories / "dp" / "croissant.json").read_text())
    sheet = contents.read(home / "dp").sheet
    assert content["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    told = " ".join(content["rai:personalSensitiveInformation"])
    assert sheet["guarantee"] in told
    for line in sheet["stated"]:
        assert line in content["rai:dataLimitations"][0]
    for key in ("dataCollection", "dataUseCases", "dataBiases", "dataPreprocessingProtocol"):
        assert content[f"rai:{key}"]
    files = {f["@id"]: f.get("sha256") for f in content["distribution"]}
    shard = repositories / "dp" / SHARD
    assert files[SHARD] == hashlib.sha256(shard.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("license", "head"),
    [
        ("not stated", {"license": "unknown"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("Ours: ask", {"license": "other", "license_name": "Ours: ask"}),
    ],
)
def test_licences_as_hubs_name_them(home, license, head):
    sheet = {**contents.read(home / "dp").sheet, "license": license}
    found = yaml.safe_load(card.render(sheet).split("---\n")[1])
    assert {key: found[key] for key in found if key.startswith("license")} == head
    assert (
        license.lower().replace(" ", "-")
        in json.dumps(croissant.described(sheet, [croissant.File(SHARD, 1, "0")]))
        .lower()
        .replace(" ", "-")
        or head["license"] == "cc-by-sa-4.0"
    )


def test_classes_of_one_name_are_told_apart(home):
    sheet = json.loads((home / "dp" / "datasheet.json").read_text())
    sheet["classes"][3]["name"] = "0"
    assert card.class_names(sheet)[:4] == ["0: 0", "1: 1", "2: 2", "3: 0"]


# What others load.

LOADED = """
import datasets, numpy, pandas, polars, pyarrow.parquet
folder = {folder!r}
rows = numpy.load({npz!r})
X, y = rows["embeddings"], rows["labels"]
found = datasets.load_dataset(folder)["train"]
assert found.features["label"].names == {names!r}
assert found.features["embedding"].length == X.shape[1]
assert numpy.array_equal(found.with_format("numpy")["embedding"][:], X)
assert found["label"][:] == y.tolist()
alone = datasets.Dataset.from_parquet(folder + "/" + {shard!r})
assert alone.features["label"].names == {names!r}
frame = pandas.read_parquet(folder + "/data")
assert numpy.array_equal(numpy.stack(frame.embedding), X) and frame.label.tolist() == y.tolist()
frame = polars.read_parquet(folder + "/data/*.parquet")
assert numpy.array_equal(frame["embedding"].to_numpy(), X)
"""


def offline(tmp_path):
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }


def python(code, tmp_path):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, env=offline(tmp_path), cwd=tmp_path
    )


def test_datasets_pandas_and_polars_load_the_rows(home, repositories, tmp_path):
    for package in ("datasets", "pandas", "polars"):
        pytest.importorskip(package)
    code = LOADED.format(
        folder=str(repositories / "ksame"),
        npz=str(home / "ksame" / "train.npz"),
        names=[str(i) for i in range(10)],
        shard=SHARD,
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def validated(folder, tmp_path):
    """What `mlcroissant validate` says, and the rows that it gives."""
    code = (
        "import sys, mlcroissant as mlc\n"
        f"found = mlc.Dataset({str(folder / 'croissant.json')!r})\n"
        "issues = found.metadata.ctx.issues\n"
        "assert not issues.errors and not issues.warnings, issues.report()\n"
        "print(sum(1 for _ in found.records('rows')), len(list(found.records('classes'))))\n"
    )
    return python(code, tmp_path)


@pytest.mark.parametrize("several", [False, True])
def test_croissant_is_valid_and_gives_the_rows(home, tmp_path, monkeypatch, several):
    pytest.importorskip("mlcroissant")
    if several:
        monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    exchange.write(tmp_path / "r", home / "dp", contents.read(home / "dp"))
    assert len(list((tmp_path / "r" / "data").iterdir())) == (4 if several else 1)
    done = validated(tmp_path / "r", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(contents.read(home / "dp").rows)), "10"]


def test_the_validator_finds_a_repository_that_lacks_something(repository, tmp_path):
    """The check above would fail on a broken version."""
    pytest.importorskip("mlcroissant")
    path = repository / "croissant.json"
    path.write_text(path.read_text().replace('"license"', '"terms"'))
    assert validated(repository, tmp_path).returncode != 0


# Shards.


def rows_of(count, dim):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, dim)).astype(np.float32)
    return EmbeddingSet(rows, np.sort(np.arange(count) % 3), {"dataset": "d"})


@pytest.mark.parametrize(("dim", "count"), [(1, 40_000), (3, 20_000), (64, 3_000)])
def test_shards_keep_to_their_size(tmp_path, monkeypatch, dim, count):
    monkeypatch.setattr(shards, "SHARD_BYTES", 450_000)
    monkeypatch.setattr(shards, "GROUP_BYTES", 70_000)
    rows = rows_of(count, dim)
    paths = shards.write(tmp_path, rows, ["a", "b", "c"])
    sizes = [path.stat().st_size for path in paths]
    assert len(paths) == -(-count // (450_000 // (4 * dim + 8)))
    assert max(sizes) < 500_000
    about = pq.read_metadata(paths[0])
    assert about.num_row_groups > 1
    groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
    assert max(groups) < 80_000
    again, told = shards.read(paths)
    assert told == shards.features(dim, "abc")
    assert again.fingerprint == rows.fingerprint
    assert again.meta == rows.meta


def test_shards_come_back_through_import(home, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    exchange.write(tmp_path / "r", home / "dp", contents.read(home / "dp"))
    exchange.read(tmp_path / "r", tmp_path / "again")
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (
        home / "dp" / "SHA256SUMS"
    ).read_bytes()
    (tmp_path / "r" / "data" / "train-00003-of-00004.parquet").unlink()
    sum_up(tmp_path / "r")
    refused(tmp_path / "r", "does not hold one whole series of Parquet files")


# Bad input.


def test_output_that_is_refused(home, tmp_path):
    done = bundle("export", home / "dp", "--output", home / "dp" / "r")
    assert done.status == 2
    assert "is in the bundle" in done.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    done = bundle("export", home / "dp", "--output", tmp_path / "full")
    assert "it exists and is not empty" in done.err
    assert bundle("import", home / "dp", "--output", tmp_path / "full").status == 2
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "file"]


def test_without_pyarrow(home, repositories, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = "Parquet files need pyarrow: pip install -r requirements-share.txt"
    done = bundle("export", home / "dp", "--output", tmp_path / "out")
    assert done.status == 2
    assert done.err == f"error: {line}\n"
    assert not list(tmp_path.iterdir())
    with pytest.raises(MissingPackageError):
        shards.write(tmp_path, rows_of(3, 2), ["a"])
    assert bundle("import", repositories / "dp", "--output", tmp_path / "out").status == 0


def test_what_is_no_repository(home, tmp_path):
    refused(home / "dp", "does not exist, but belongs to the repository")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "create_db.py --from makes a database")
    refused(tmp_path / "nowhere", "is not a folder")


def test_what_git_and_hubs_add_is_not_read(repository):
    (repository / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (repository / ".cache").mkdir()
    (repository / ".git").symlink_to("/etc")
    output = repository.parent / "imported"
    done = bundle("import", repository, "--output", output)
    assert done.status == 0, done.err
    assert not (output / ".git").exists()


def linked(folder):
    (folder / "README.md").rename(folder.parent / "blob")
    (folder / "README.md").symlink_to(folder.parent / "blob")


def linked_data(folder):
    (folder / "data").rename(folder.parent / "elsewhere")
    (folder / "data").symlink_to(folder.parent / "elsewhere")


def linked_shard(folder):
    (folder / SHARD).rename(folder.parent / "blob")
    (folder / SHARD).symlink_to(folder.parent / "blob")


def nested(folder):
    (folder / "data" / "more").mkdir()


def with_sum(line):
    def change(folder):
        with (folder / "SHA256SUMS").open("a") as file:
            file.write(line)

    return change


def big(name, size):
    def change(folder):
        with (folder / name).open("r+b") as file:
            file.truncate(size)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (linked, "README.md is a link, not a plain file"),
        (linked_data, "data is a link, not a plain file"),
        (linked_shard, "train-00000-of-00001.parquet is not a plain file"),
        (nested, "data/more does not belong to the repository"),
        (lambda f: (f / "run.py").write_text("1"), "run.py does not belong to the repository"),
        (lambda f: (f / "data" / "b.csv").write_text("1"), "b.csv does not belong"),
        (lambda f: (f / SHARD).unlink(), "does not exist, but belongs to the repository"),
        (lambda f: (f / "README.md").write_text("free"), "README.md was changed"),
        (with_sum(f"{'0' * 64}  ../secret\n"), "secret does not exist, but belongs"),
        (with_sum(f"{'0' * 64}  /etc/passwd\n"), "/etc/passwd does not exist, but belongs"),
        (with_sum("rubbish\n"), "has a line that is not a checksum"),
        (big("SHA256SUMS", 1 << 21), "has more than 1048576 bytes"),
        (big("datasheet.json", 1 << 24), "datasheet.json has more than 8388608 bytes"),
        (big("croissant.json", 1 << 27), "croissant.json has more than 67108864 bytes"),
        (big(SHARD, 500_000_001), "has more than 500000000 bytes"),
    ],
)
def test_files_that_are_refused_before_they_are_read(repository, change, message, monkeypatch):
    def read(*_):
        raise AssertionError("Parquet was read")

    monkeypatch.setattr(shards, "read", read)
    change(repository)
    refused(repository, message)


def retold(folder, name, before, after):
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: retold(f, "README.md", "No differential privacy.", "Fully anonymous."),
            "README.md does not say what datasheet.json says",
        ),
        (
            lambda f: retold(f, "croissant.json", "No differential", "Full differential"),
            "croissant.json does not say what datasheet.json says",
        ),
        (
            lambda f: retold(f, "datasheet.json", '"seed": null', '"seed":  null'),
            f"datasheet.json {contents.NOT_OURS}",
        ),
        (
            lambda f: retold(f, "datasheet.json", "No differential", "Full differential"),
            "'guarantee' does not match the rows and the decoder",
        ),
        (
            lambda f: retold(f, "bundle.SHA256SUMS", "  train.npz", "  train.npy"),
            "is not the bundle whose checksums bundle.SHA256SUMS has",
        ),
    ],
)
def test_lies_with_correct_checksums(repository, change, message):
    change(repository)
    sum_up(repository)
    if "bundle.SHA256SUMS" in message:  # which croissant.json lists
        bundle_ = contents.agreeing(repository / "datasheet.json", shards.read(
            [repository / SHARD])[0], None)  # fmt: skip
        found = {n: hashlib.sha256((repository / n).read_bytes()).hexdigest()
                 for n in exchange.names(repository)}  # fmt: skip
        for name, text in exchange._told(repository, bundle_, found).items():
            (repository / name).write_bytes(text)
        sum_up(repository)
    refused(repository, message)


# Hostile Parquet files, with correct checksums.


def table(rows=1290, dim=64, **columns):
    element = pa.field("element", pa.float32(), nullable=False)
    schema = pa.schema(
        [
            pa.field("embedding", pa.list_(element, dim), nullable=False),
            pa.field("label", pa.int64()),
        ],
        metadata={"meta": "{}", "huggingface": "{}"},
    )
    values = pa.array(np.zeros(rows * dim, np.float32))
    lists = pa.FixedSizeListArray.from_arrays(values, type=schema.field(0).type)
    return pa.table([lists, pa.array(np.zeros(rows, np.int64))], schema=schema)


def write(path, content, **options):
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(content, path, **{**plain, **options})


def without_metadata(path):
    write(path, table().replace_schema_metadata({"meta": "{}"}))


def more_metadata(path):
    write(path, table().replace_schema_metadata(
        {"meta": "{}", "huggingface": "{}", "pandas": "{}"}))  # fmt: skip


def huge_metadata(path):
    write(path, table().replace_schema_metadata({"meta": "x" * (5 << 20), "huggingface": "{}"}))


def pickled_type(path):
    field = pa.field(
        "label",
        pa.int64(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
        },
    )
    good = table()
    write(path, good.cast(pa.schema([good.schema.field(0), field], good.schema.metadata)))


def many_rows_in_few_bytes(path):
    write(path, table(500_000, 64), compression="zstd", use_dictionary=True)


def labels_missing(path):
    good = table()
    labels = pa.array([None] * len(good), pa.int64())
    write(path, good.set_column(1, good.schema.field(1), labels))


def other_columns(path):
    good = table()
    write(path, good.append_column("name", pa.array(["x"] * len(good))))


def not_finite(path):
    good = table()
    values = pa.array(np.full(len(good) * 64, np.nan, np.float32))
    lists = pa.FixedSizeListArray.from_arrays(values, type=good.schema.field(0).type)
    write(path, good.set_column(0, good.schema.field(0), lists))


def page_of_many_values(path):
    """The first page says that it has other values than it has."""
    content = bytearray(path.read_bytes())
    at = content.index(b"\x2c\x15", 4) + 2  # DataPageHeader, num_values
    content[at] ^= 2
    path.write_bytes(content)


def many_rows(path):
    """The footer says (n, then in its row group) that there are more rows than bytes."""
    content = bytearray(path.read_bytes())
    start = len(content) - 8 - plain.footer_bytes(path)
    for _ in range(2):
        start = content.index(b"\x16\x94\x14", start)  # 1290 as a signed number of 7-bit groups
        content[start + 1 : start + 3] = b"\x94\x74"
    path.write_bytes(content)


def other_names(path):
    rows, _ = shards.read([path])
    (written,) = shards.write(path.parent, rows, list("zyxwvutsrq"))
    assert written == path


def long_footer(path):
    content = path.read_bytes()
    path.write_bytes(content[:-8] + (1 << 30).to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_metadata, "unexpected or missing metadata: b'huggingface'"),
        (more_metadata, "unexpected or missing metadata: b'pandas'"),
        (huge_metadata, "bytes of metadata, more than 4194304"),
        (long_footer, "it is not a Parquet file"),
        (pickled_type, "has extension types, which could run code; it is not read"),
        (many_rows_in_few_bytes, "is compressed or encoded, which this program never does"),
        (labels_missing, "says 1290 rows of 64, which it cannot hold"),
        (other_columns, "has other columns than embedding"),
        (page_of_many_values, "missing or superfluous values"),
        (many_rows, "which it cannot hold"),
        (other_names, "does not name the classes as datasheet.json does"),
        (not_finite, "embeddings[0, 0] is nan"),
        (lambda p: write(p, table(0)), "its metadata is damaged"),
        (lambda p: write(p, table(), compression="snappy"), "is compressed or encoded"),
        (lambda p: p.write_bytes(b"PAR1"), "it is not a Parquet file"),
        (lambda p: p.write_bytes(b""), "it is not a Parquet file"),
        (lambda p: p.write_bytes(b"x" * 100), "it is not a Parquet file"),
        (lambda p: write(p, table()), "datasheet.json"),
    ],
)
def test_hostile_parquet(repository, change, message):
    change(repository / SHARD)
    sum_up(repository)
    refused(repository, message)


@pytest.mark.parametrize("at", range(3))
def test_extension_types_are_seen_wherever_they_are_in_the_base64(at):
    text = base64.b64encode(b"\1" * (at + 30) + b"ARROW:extension:name" + b"\2" * 31)
    assert sum(part in text for part in shards.EXTENSIONS) == 1
    assert not any(part in base64.b64encode(bytes(range(256)) * 4) for part in shards.EXTENSIONS)


def test_a_version_that_does_not_look_for_extension_types_takes_them(repository, monkeypatch):
    pickled_type(repository / SHARD)
    with pytest.raises(DataError, match="extension types"):
        shards.read([repository / SHARD])
    monkeypatch.setattr(shards, "EXTENSIONS", [])
    assert len(shards.read([repository / SHARD])[0]) == 1290


def test_damaged_parquet_ends_in_one_line_or_does_not_matter(repository):
    """A byte changed here and there, mostly in headers and in the footer."""
    path, rng = repository / SHARD, np.random.default_rng(0)
    content = path.read_bytes()
    rows = len(shards.read([path])[0])
    footer = len(content) - 8 - plain.footer_bytes(path)
    ends = [*range(40), *range(footer, footer + 200)]
    for _ in range(400):
        changed = bytearray(content)
        for at in rng.choice(ends, size=rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        path.write_bytes(changed)
        found = None
        with suppress(DataError):  # anything else fails the test
            found, _ = shards.read([path])
        assert found is None or len(found) == rows
        if found is not None:
            assert np.isfinite(found.embeddings).all()
            assert set(found.labels) <= set(range(1 << 20))


def test_too_many_names_for_parquet(home, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "MOST_FOOTER", 100)
    done = bundle("export", home / "dp", "--output", tmp_path / "out")
    assert done.status == 2
    assert "too long for Parquet" in done.err
    assert not list(Path(tmp_path).iterdir())
