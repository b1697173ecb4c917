"""The pages: links, code, tables, and numbers that are those of the results."""

import argparse
import importlib.util
import json
import re
import runpy
import shlex
import sys
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import tyro

from qa import page_tables, pages, site

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    + tuple(sorted(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")))
]
FENCE = re.compile(r"^```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?P<place>[^)#\s]*)#?(?P<anchor>[^)\s]*)\)")
COMMAND = re.compile(r"python -m (?:experiments|jaxmtl|qa)\b[^`\n]*")
WITHOUT_OPTIONS = ("qa.pages", "qa.site")
OF_EXTRAS = ("cosmic_ray", "onnx", "optuna", "torch")
"""What some commands cannot be read without."""
by_page = pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.name)


class Read(Exception):
    """A program has read its command line."""


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


@cache
def anchors(page: Path) -> set[str]:
    """What the repository's host and the built pages both call its headings."""
    found = set()
    for heading in re.findall(
        r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.M
    ):
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading)
        hosted = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore")
        words = re.sub(r"[^\w\s-]", "", ascii_only.decode()).strip().lower()
        if hosted == re.sub(r"[-\s]+", "-", words):
            found.add(hosted)
    return found


def dead_links(page: Path) -> list[str]:
    """Links of a page to files and headings that are not there."""
    dead = []
    text = without_code(page.read_text(encoding="utf-8"))
    for link in LINK.finditer(text):
        place, anchor = link["place"], link["anchor"]
        ours = site.OURS.match(place)
        if not ours and re.match(r"[a-z]+:", place):
            continue  # another's
        start = ROOT if ours else page.parent
        target = (start / site.OURS.sub("", place)).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link[0])
    return dead


@by_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert dead_links(page) == []


def test_a_dead_link_a_dead_anchor_and_an_ambiguous_heading_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One: a heading\n## Not – plain\n[a](page.md#one-a-heading) [b](none.md)"
        " [c](#two) [d](#not-plain) [e](https://example.org/none) `[f](none)`\n"
        "[g](https://github.com/jaxmtl/jaxmtl/blob/main/none.md)"
        " [h](https://github.com/jaxmtl/jaxmtl/blob/main/README.md#add-an-idea)\n"
    )
    assert [link[2:].strip("()") for link in dead_links(page)] == [
        "none.md",
        "#two",
        "#not-plain",
        "https://github.com/jaxmtl/jaxmtl/blob/main/none.md",
    ]


def blocks(page: Path, kind: str) -> list[str]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [block["text"] for block in found if block["kind"] == kind]


@by_page
def test_python_blocks_compile_and_every_block_names_its_language(page):
    for text in blocks(page, "python"):
        compile(text, page.name, "exec")
    assert blocks(page, "") == []


def commands(page: Path) -> list[str]:
    """Commands of ours in blocks and in the text, but for those with a stand-in."""
    text = "\n".join(blocks(page, "sh")) + re.sub(FENCE, "", page.read_text("utf-8"))
    found = {c.partition(" #")[0].strip() for c in COMMAND.findall(text)}
    return sorted(c for c in found if "run NAME" not in c)


COMMANDS = [
    pytest.param(command, id=f"{page.stem}: {command[10:60]}")
    for page in TEXTS
    if page.name != "CONTRIBUTING.md"  # its commands are carried out
    for command in commands(page)
]


def read_command(command: str, monkeypatch) -> None:
    """Has a program read its command line, and stops it there.

    Raises:
      SystemExit: it cannot be read, or it is a question such as `--help`.
      Read: it was read.
    """
    words = shlex.split(command)[2:]
    reading = argparse.ArgumentParser.parse_args, tyro.cli

    def stop(reader):
        def read(*args, **kwargs):
            reader(*args, **kwargs)
            raise Read

        return read

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop(reading[0]))
    monkeypatch.setattr(tyro, "cli", stop(reading[1]))
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


@pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_can_be_read(command, monkeypatch, capsys):
    module, *options = shlex.split(command)[2:]
    assert importlib.util.find_spec(module), f"{module} is no program of ours"
    if module in WITHOUT_OPTIONS:
        assert options == []
        return
    try:
        read_command(command, monkeypatch)
    except Read:
        return
    except ModuleNotFoundError as error:
        assert error.name.partition(".")[0] in OF_EXTRAS
        pytest.skip(f"{error.name} is not installed")
    except SystemExit as stopped:
        message = capsys.readouterr().err
        if "optuna" in message:
            pytest.skip("optuna is not installed")
        assert not stopped.code and {"--help", "--list"} & set(options), message
        return
    pytest.fail(f"{module} ended without having read its options")


@pytest.mark.parametrize(
    "command",
    [
        "python -m experiments.run lt4rec.table2 --sees 5",
        "python -m experiments.run lt4rec.tabel2",
        "python -m experiments.export runs/one",
        "python -m experiments.report --oout two runs/one",
    ],
)
def test_a_wrong_name_or_option_is_found(command, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        read_command(command, monkeypatch)
    assert stopped.value.code


def test_the_readme_is_a_door_that_opens_from_everywhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 10_240
    assert not [m["place"] for m in LINK.finditer(text) if m["place"][:8] != "https://"]


@pytest.mark.parametrize("page", pages.pages(), ids=lambda path: path.name)
def test_tables_have_the_width_of_a_telephone(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    widths = [
        len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) - 1
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert max(widths, default=0) <= 4


@pytest.mark.parametrize("page", pages.pages(), ids=lambda path: path.name)
def test_marked_numbers_are_those_of_the_results(page):
    """Else: python -m qa.pages."""
    text = page.read_text(encoding="utf-8")
    assert pages.renewed(text) == text


def test_a_number_and_a_table_are_made_of_a_result():
    marked = (
        "CVR <!-- number: video_feed/tuned/table2.json"
        " rows/lt4rec.s_weight/params , -->typed<!-- end -->"
    )
    path = pages.RESULTS / "video_feed/tuned/table2.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    (row,) = (r for r in result["rows"] if r["module"] == "lt4rec.s_weight")
    assert f"-->{row['params']:,}<!--" in pages.renewed(marked)
    with pytest.raises(ValueError, match="lt4rec.none"):
        pages.renewed(marked.replace("s_weight", "none"))
    with pytest.raises(ValueError, match="1 times"):
        pages.renewed(marked.replace("number:", "number"))

    means = {"one.base": 0.5, "one.row": 0.4}
    table = {
        "table": "one.table",
        "layout": {"main": {"a.mse": "A MSE"}, "baselines": {"base": "base"}},
        "rows": [
            {
                "row": module,
                "module": module,
                "paper": {},
                "metrics": {"a.mse": {"mean": mean, "ci95": [mean - 0.1, mean + 0.1]}},
                "tests": {"a.mse": {"vs_base": {"p_holm": 0.01}}},
            }
            for module, mean in means.items()
        ],
    }
    assert page_tables.changes(table, "base", "a.mse").split("\n")[4:6] == [
        "| one.base | 0.5000 ± 0.1000 |",
        "| one.row | -20.0 %* |",
    ]


def test_the_site_has_every_page_and_reads_docstrings_as_they_are_written():
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    listed = re.findall(r'"([\w/-]+\.md)"', json.dumps(project["nav"]))
    written = [path.relative_to(ROOT).as_posix() for path in TEXTS]
    written = ["index.md" if name == "README.md" else name for name in written]
    assert sorted(listed) == sorted(written + [f"api/{name}.md" for name in site.api()])
    handler = project["plugins"]["mkdocstrings"]["handlers"]["python"]
    assert handler["options"]["docstring_style"] == "google"
    assert "jaxmtl.types" in site.api()["jaxmtl"]


def test_the_sites_links_lead_to_pages_or_into_the_repository():
    page = "[a](b.md#c) [d](../README.md) [e](../jaxmtl/types.py) [f](../examples/)"
    found = site.with_links(page, "docs", {"docs/b.md"}, "https://host")
    assert found == (
        "[a](b.md#c) [d](../index.md) [e](https://host/blob/main/jaxmtl/types.py)"
        " [f](https://host/tree/main/examples)"
    )
    change = lambda text: text.replace("$", "€")
    assert site.outside_code(change, "$ `$` \n```sh\n$\n```\n$") == (
        "€ `$` \n```sh\n$\n```\n€"
    )
