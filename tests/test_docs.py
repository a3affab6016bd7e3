"""README.md and docs/: tables match their files, links lead somewhere, commands work."""

import re
import shlex

import pytest

from benchmarks import tables
from tests.support import ROOT, call

PAGES = [*tables.pages(), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"(?:^\$ |^|`)(python (?:-m )?[\w./]+(?: [^`\n#]*)?)", re.MULTILINE)
DECIMAL = re.compile(r"\d+\.\d+")


def section(page, title):
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands(text):
    """Each `python ...` of a page, in code blocks and between backquotes, as words."""
    return [shlex.split(match) for match in PYTHON.findall(text)]


def quick_start():
    """The README's commands with the lines that they print."""
    blocks = [
        body
        for kind, body in FENCE.findall(section(ROOT / "README.md", "Quick start"))
        if kind == "console"
    ]
    for part in "".join(blocks).split("$ ")[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.name)
def test_tables_are_those_of_the_result_files(page):
    assert page.read_text() == tables.updated(page), "run `make tables`"


def test_every_result_file_has_a_table():
    shown = {
        words.split()[0]
        for page in tables.pages()
        for _, words, _ in tables.MARKED.findall(page.read_text())
    }
    files = {path.stem for path in tables.RESULTS.iterdir() if path.suffix != ".md"}
    assert shown == files | {tables.REFERENCE}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", linked.read_text()), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, f"{page.name}: {target}"


def program(words):
    """The module of a command whose `main` it runs, and the subcommand of one that has any."""
    path = words[2].replace(".", "/") if words[1] == "-m" else words[1].removesuffix(".py")
    module = f"{path}/__main__" if (ROOT / path).is_dir() else path
    return module.replace("/", "."), *(words[3:4] if path == "src/bundle" else ())


def test_every_flag_in_the_docs_exists():
    helps = {}
    missing = []
    for page in PAGES[:-1]:  # the changelog names what is gone
        for words in commands(page.read_text()):
            flags = {word.partition("=")[0] for word in words if word.startswith("--")}
            called = program(words)
            if called not in helps:
                helps[called] = call(*called, "--help").out.split()
            missing += [f"{page.name}: {called} {f}" for f in flags if f not in helps[called]]
    assert len(helps) >= 8
    assert all(helps.values())
    assert not missing


def test_configs_in_the_docs_exist():
    for page in PAGES:
        for name in re.findall(r"configs/[\w/]+\.yaml", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_quick_start_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what the commands write goes below the current folder
    steps = list(quick_start())
    assert len(steps) == 4
    for command, printed in steps:
        python, script, *flags = shlex.split(command)
        assert python == "python"
        done = call(script.removesuffix(".py"), *flags)
        assert done.status == 0, done.err
        assert DECIMAL.sub("#", done.out) == DECIMAL.sub("#", printed)
        ours, theirs = (
            [float(number) for number in DECIMAL.findall(text)] for text in (done.out, printed)
        )
        assert ours == pytest.approx(theirs, abs=1)  # last digits are the machine's


def test_cells_of_a_csv(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "dataset,anonymizer,auc_sigma0_mean,auc_sigma0_sd,auc_sigma0_best,auc_sigma0_published,"
        "coverage_mean,coverage_sd\n"
        "a,x,99.126,0.5,0,98,0.5,\n"
        "a,y,90,1,1,,,\n"
    )
    assert tables.of_csv(path) == [
        ["anonymizer", "AUC (%)", "released code", "coverage"],
        ["x", "99.13 ± 0.50", "98.00", "0.500"],
        ["y", "**90.00 ± 1.00**", "–", "–"],
    ]
    assert tables.of_csv(path, ["coverage"])[0] == ["anonymizer", "coverage"]
    with pytest.raises(tables.InputError, match="unknown metric of table.csv 'coverag'"):
        tables.of_csv(path, ["coverag"])


def test_unknown_tables_are_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: dmeo -->\n<!-- end -->\n")
    with pytest.raises(tables.InputError, match="unknown table 'dmeo'; did you mean 'demo'"):
        tables.updated(page)
