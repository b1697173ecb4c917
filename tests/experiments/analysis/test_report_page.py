"""The report of a study: what it shows, that it stands alone, that it can be read."""

import base64
import html
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_schema
from tensorboardX.proto.event_pb2 import Event
from test_report import pruning_rounds, row, rows, table
from tiny import TINY

from experiments import run
from experiments.analysis.report import (
    comparison,
    curves,
    document,
    learning,
    markdown,
    page,
    rendering,
    results,
    searches,
)
from experiments.analysis.report.document import Document, Grid, Section
from experiments.analysis.report.study_files import read_study
from experiments.report import main
from experiments.running import monitor
from experiments.running.workdir import write_arrays, write_json
from experiments.settings.ablation import Ablation, Row
from experiments.settings.config import Config, PruningConfig, as_json
from jaxmtl.data.store import Dataset
from jaxmtl.sparsity.tickets import Round, Ticket
from jaxmtl.training.fit import EpochRecord

HOSTILE = "<script>alert('&')</script> | $x_1$"
"""A name that must arrive as text wherever it is shown."""
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)


def epochs(seed, n, phase="joint", run="lt4rec.s_weight", start=1):
    return [
        {
            "run": run,
            "seed": seed,
            "phase": phase,
            "epoch": epoch,
            "losses": {"click": 0.6 - epoch / 100, "watch": 0.06},
            "validation": {"click": 0.7 + seed / 100, "watch": None},
            "regrets": {"click": 0.6, "watch": 1.0},
        }
        for epoch in range(start, n + 1)
    ]


def write_study(folder: Path, name="lt4rec.table2", **changes) -> Path:
    """A finished work directory, as a run leaves it, without training anything."""
    settings = as_json(Config())
    del settings["data"]
    built = [*rows()[:-1], row("s_weight", row=HOSTILE, module="lt4rec.hostile")]
    config = {
        "name": name,
        "data": {"name": "video_feed", "fingerprint": "f00d"},
        "rows": {r.module: settings | changes for r in built},
    }
    write_json(folder / "config.json", config)
    rendering.write_table(table([*built, rows()[-1]]), folder)
    for r in built:
        by_seed = [{"seed": s, "best_epoch": 2, "seconds": 1.5} for s in r.seeds]
        kept = r._asdict() | {"by_seed": by_seed}
        kept["metrics"] = {n: [m._asdict() for m in ms] for n, ms in r.metrics.items()}
        write_json(folder / "rows" / r.module / "result.json", kept)
        for part in by_seed:
            seed = folder / "rows" / r.module / f"seed{part['seed']}" / "seed.json"
            write_json(seed, part)
    write_json(folder / "tickets/ctr-weight-0/seed0/ticket.json", {"seconds": 2.0})
    lines = [*epochs(0, 3), *epochs(0, 2, "round 1", "ctr-weight-0"), *epochs(1, 4)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    about = {
        "seeds": [0, 1, 2],
        "command": f"python -m experiments.run {name} --workdir '<here>'",
        "environment": {"jax": "0.10.2", "processor": "a <chip>"},
        "notes": ["a note of the log"],
        "counts": {"train": 64000},
        "tasks": {"click": "AUC", "watch": "MSE"},
        "printed": "as printed",
    }
    write_json(folder / "study.json", about)
    line = np.linspace(0, 1, 10).tolist()
    roles = {
        role: {
            "row": HOSTILE,
            "n": 400,
            "roc": curves.RATES.tolist() if role == "ctr" else None,
            "calibration": {"predicted": line, "observed": line},
        }
        for role in ("ctr", "cvr")
    }
    found = {"rates": curves.RATES.tolist(), "rows": {"lt4rec.hostile": roles}}
    write_json(folder / "curves.json", found)
    write_json(folder / "searches.json", {"s-weight": pruning_rounds(2)})
    kinds = np.arange(24, dtype=np.uint8).reshape(6, 4) % 4
    write_arrays(folder / "searches.npz", {"s-weight/layer00": kinds})
    (folder / "answers.md").write_text("| q | a |\n|:--|--:|\n| why | 42 |\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("study") / "run")
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def pictures(section):
    yield from section.pictures
    for part in section.parts:
        yield from pictures(part)


def test_a_report_shows_everything_that_a_study_left(text, folder):
    shown = html.unescape(text)
    for words in (
        "lt4rec.table2 on video_feed",
        "train 64,000",
        "24 s, all rows and seeds, of which ticket searches 2 s",
        "--workdir '<here>'",
        "0.13333 ± 0.00872",
        "Tests against the baselines",
        "95 % over users",
        "Ticket searches",
        "Where the masks of two tasks meet",
        "Learning curves",
        "ROC and calibration",
        "processor: a <chip>",
        "a note of the log",
        "42",
    ):
        assert words in shown, words
    names = {path.name for path in (folder / "report_figures").iterdir()}
    assert (
        "lt4rec.table2-cvr.mse.svg" in names and "masks-s-weight-layer00.svg" in names
    )
    assert "learning-lt4rec.s_weight.svg" in names
    assert "judgement-lt4rec.hostile.svg" in names
    assert "as printed" not in shown  # the table holds it already


def test_a_report_needs_nothing_but_itself(text):
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert "<script" not in text and "@import" not in text and "url(" not in text
    for image in re.findall(r"src=\"data:image/svg\+xml;base64,([^\"]+)\"", text):
        tree = ElementTree.fromstring(base64.b64decode(image))
        names = [name for node in tree.iter() for name in node.attrib]
        assert not [name for name in names if name == "src"]


def test_names_are_text_wherever_they_are_shown(text, folder):
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False) in text.replace("&#39;", "'")
    written = (folder / "report.md").read_text(encoding="utf-8")
    assert HOSTILE.replace("|", "\\|") in written


def test_every_picture_says_what_it_shows_and_belongs_to_the_palette(folder):
    made = page.make_page(read_study(folder))
    found = [p for section in made.sections for p in pictures(section)]
    assert len(found) == len({p.name for p in found}) == 7
    for picture in found:
        assert len(picture.alt) > 20
        colours = set(re.findall(rb"(?:fill|stroke): (#[0-9a-f]{6})", picture.content))
        known = {"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#e6e6e6"}
        assert {c.decode() for c in colours} <= known | {"#cccccc"}, picture.name
    images = re.findall(r"<img [^>]*>", document.to_html(made))
    assert len(images) == 7 and all(' alt="' in image for image in images)


def test_markdown_has_the_same_sections_tables_and_pictures(text, folder):
    written = (folder / "report.md").read_text(encoding="utf-8")
    headings = re.findall(r"<h[2-5]>(.*?)</h[2-5]>", text)
    assert [html.unescape(h) for h in headings] == re.findall(
        r"^##+ (.*)$", written, re.MULTILINE
    )
    assert text.count("<table>") == len(re.findall(r"^\|:-", written, re.MULTILINE))
    links = re.findall(r"^!\[.*\]\((.*)\)$", written, re.MULTILINE)
    assert len(links) == text.count("<img ")
    assert all((folder / link).stat().st_size > 500 for link in links)


def test_the_same_study_gives_the_same_report(folder, text):
    assert main([str(folder)]) == 0
    assert (folder / "report.html").read_text(encoding="utf-8") == text


def test_significant_changes_are_set_apart():
    columns = [["Row", "a", "b", "c"], ["p (Holm)", "<0.001", "0.050", "–"]]
    columns += [["Δ", "0.01", "0.01", "0.01"]]
    made = Document("t", "", {}, [], [Section("s", grids=[Grid(columns)])])
    assert re.findall("<strong>(.*?)</strong>", document.to_html(made)) == ["&lt;0.001"]


def test_significance_is_that_of_the_number_and_not_of_its_text():
    """All of these are shown as 0.050; a page read back from Markdown knows no more."""
    cells = [document.p_text({"p_holm": p}) for p in (0.0496, 0.0504)] + ["0.050"]
    assert cells == ["0.050"] * 3
    made = [document.is_significant(cell, document.P) for cell in cells]
    assert made == [True, False, False]
    noise = {
        "figure": "x",
        "data": "y",
        "seeds": [0],
        "metrics": {"a.auc": "A"},
        "panels": {"n": {"r": [{"x": 0, "metrics": {"a.auc": {"mean": None}}}]}},
        "adaptation": [
            {"inputs": "i", "without": 0, "with": 0, "difference": 0, "low": None}
            | {"p_holm": 0.0496}
        ],
    }
    columns = results.section(noise).grids[0].columns
    assert document.is_significant(columns[-1][1], columns[-1][0])


def test_markdown_of_other_writers_becomes_tables_and_notes():
    grid = document.grid([["a|b", "1"], ["c", "2"]], markdown=True)
    found = markdown.read(f"{grid}\n\n- one\n- two\n\nlast\nline\n\n## more\n\nx", "t")
    assert found.grids[0].rows == [("a|b", "c"), ("1", "2")]
    assert found.notes == ["one", "two", "last line"]
    assert [(part.title, part.notes) for part in found.parts] == [("more", ["x"])]


# Learning curves


def test_a_training_begun_again_counts_from_where_it_began(tmp_path):
    first, again = epochs(0, 4), epochs(0, 3, start=2)
    again[0]["losses"]["click"] = 9.0
    lines = [json.dumps(line) for line in [*first, *again]] + ['{"run": "lt']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = learning.read(tmp_path / "metrics.jsonl")["lt4rec.s_weight"][0]
    assert [line["epoch"] for line in found] == [1, 2, 3]
    assert found[1]["losses"]["click"] == 9.0
    (tmp_path / "metrics.jsonl").write_text("no JSON\n" + lines[0], encoding="utf-8")
    with pytest.raises(ValueError, match="metrics.jsonl, line 1"):
        learning.read(tmp_path / "metrics.jsonl")


def test_a_figure_of_learning_has_the_mean_the_seeds_and_the_epochs_kept():
    seeds = {0: epochs(0, 3), 1: epochs(1, 4)}
    figure = learning.draw("s-weight", seeds, {0: 2, 1: 3}, {"click": "AUC"})
    axes = {axis.get_title(): axis for axis in figure.axes}
    assert list(axes) == [
        *("loss/click", "loss/watch"),
        *("validation/click AUC", "validation/watch"),
    ]
    one, two, mean, *rings = axes["validation/click AUC"].lines
    np.testing.assert_allclose(one.get_ydata(), [0.70] * 3)
    np.testing.assert_allclose(two.get_ydata(), [0.71] * 4)
    np.testing.assert_allclose(mean.get_ydata(), [0.705] * 3)
    assert [list(ring.get_xdata()) for ring in rings] == [[2], [3]]
    assert (
        learning.describe(seeds, [2, 3]) == "2 seeds, 3 to 4 epochs; kept: epoch 2, 3"
    )


def scalars(path: Path) -> set[tuple[str, int]]:
    """Tag and step of every scalar of a TensorBoard file."""
    data, found, at = path.read_bytes(), set(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found |= {(value.tag, event.step) for value in event.summary.value}
        at += 16 + length
    return found


def test_tensorboard_has_a_run_a_row_and_seed_under_the_reports_names(tmp_path):
    watch = monitor.Monitor(tmp_path)
    watch.expect(2)
    for phase in ("round 1", "joint"):
        with watch.training("lt4rec.s_weight", 3, phase) as on_epoch:
            for line in epochs(3, 2):
                fields = {k: line[k] for k in EpochRecord._fields if k in line}
                on_epoch(EpochRecord(**fields))
    watch.close()
    events = {
        str(path.parent.relative_to(tmp_path / "events")): scalars(path)
        for path in (tmp_path / "events").rglob("events.*")
    }
    assert set(events) == {"lt4rec.s_weight/seed3", "lt4rec.s_weight/seed3/round1"}
    joint = events["lt4rec.s_weight/seed3"]
    tags = {tag for tag, _ in joint}
    assert tags == {"loss/click", "loss/watch", "validation/click"}
    read = learning.read(tmp_path / "metrics.jsonl")
    figure = learning.draw("s-weight", read["lt4rec.s_weight"], {}, {})
    assert tags <= {axis.get_title() for axis in figure.axes}
    assert {step for _, step in joint} == {1, 2}


@pytest.mark.parametrize("cut", ['{"run": "a", "se', ""])
def test_a_line_that_was_cut_short_goes_before_more_are_written(tmp_path, cut):
    """A full disk cuts it; in the middle of the file no report could be made."""
    path, line = tmp_path / "metrics.jsonl", json.dumps(epochs(3, 1)[0])
    path.write_text(f"{line}\n{cut}")
    told = monitor.Remote(tmp_path, lambda told: None)
    told.close()
    assert path.read_text() == f"{line}\n{cut}"  # another process may be writing it
    watch = monitor.Monitor(tmp_path)
    watch.close()
    assert path.read_text() == f"{line}\n"
    path.write_text(cut)
    monitor.Monitor(tmp_path).close()
    assert path.read_text() == ""


# Several studies


def test_studies_are_compared_row_by_row_with_what_differs(tmp_path, capsys):
    one = write_study(tmp_path / "one")
    two = write_study(tmp_path / "two", optimiser={"learning_rate": 0.5})
    for folder, found in {one: "0.9.0", two: "0.10.2"}.items():
        config = json.loads((folder / "config.json").read_text())
        software = {"jax": found, "numpy": "2.0.0"}
        write_json(folder / "config.json", config | {"software": software})
    out = tmp_path / "out"
    assert main([str(one), str(two), "--out", str(out)]) == 0
    assert "report.html" in capsys.readouterr().out
    made = comparison.make_page([read_study(one), read_study(two)])
    studies, changes, found = made.sections
    assert [part.title for part in found.parts] == ["one", "two"]
    cells = {r[0]: r[1:] for r in found.parts[0].grids[0].rows}
    assert cells["Row"] == ("seeds", "cvr.mse", "ctr.auc", "params", "s")
    assert cells["s-weight"][:2] == ("3", "0.13333 ± 0.00872")
    assert cells["base-ctr"][1] == "–"
    settings = {r[0]: r[1:] for r in changes.grids[0].rows}
    assert settings["optimiser.learning_rate"] == ("0.0001", "0.5")
    assert settings["software.jax"] == ("0.9.0", "0.10.2")
    assert not {"training.epochs", "software.numpy"} & set(settings)
    assert {p.caption for p in found.pictures} == {"cvr.mse", "ctr.auc"}
    assert studies.grids[0].rows[1][0] == "one"


def test_a_folder_that_holds_no_run_ends_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "no work directory" in line


# Where tickets were searched


def test_a_tuning_is_no_study_and_ends_in_one_line(tmp_path, capsys):
    write_json(tmp_path / "config.json", {"space": {}, "rows": {"lt4rec.s_weight": {}}})
    assert main([str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}: ") and "tuning" in line


def test_each_search_is_written_once_with_where_its_masks_meet(tmp_path, monkeypatch):
    data = Dataset(make_schema(), {}, {}, (), "tiny")
    mask = lambda bits: {"shared": {"mlp": {"kernel": np.array([bits])}}, "tasks": {}}
    click, watch = mask([True, True, False]), mask([True, False, False])
    ticket = lambda m: Ticket((Round(m, 1.0, 0.7, 1), Round(m, 0.5, 0.8, 1)), 1)
    both = {"click": ticket(click), "watch": ticket(watch)}
    monkeypatch.setattr(searches.ticket_cache, "missing", lambda *_: None)
    where = lambda workdir, config, data, task, seed: tmp_path / task
    monkeypatch.setattr(searches.ticket_cache, "folder", where)
    monkeypatch.setattr(searches.ticket_searches, "find", lambda *_: both)
    config = Config(pruning=PruningConfig(masks="ticket"))
    made = [
        Ablation("lt4rec.a", Row("a"), config),
        Ablation("lt4rec.b", Row("b"), config),
        Ablation("lt4rec.c", Row("c"), Config()),
    ]
    searches.write(made, [0, 1], data, tmp_path, None)
    found = json.loads((tmp_path / "searches.json").read_text("utf-8"))
    assert list(found) == ["a"]
    assert found["a"]["CTR (click)"] == {
        "metric": "AUC",
        "density": [1.0, 0.5],
        "values": [[0.7, 0.8]] * 2,
        "chosen": [1, 1],
    }
    with np.load(tmp_path / "searches.npz") as maps:
        assert {name: maps[name].tolist() for name in maps} == {"a/mlp": [[3, 1, 0]]}


# A real browser

LOOK = """<script>addEventListener("load", async () => {
  const images = [...document.images];
  await Promise.all(images.map((image) => image.decode().catch(() => 0)));
  for (const part of document.querySelectorAll("details")) part.open = true;
  const page = document.documentElement;
  parent.document.documentElement.setAttribute("data-seen", JSON.stringify({
    width: innerWidth, overflow: page.scrollWidth - innerWidth,
    images: images.map((image) => image.naturalWidth),
    widths: images.map((image) => image.clientWidth),
  }));
});</script>"""


def look(path: Path, width: int, profile: Path) -> tuple[dict, str]:
    """What a headless browser sees of a page, and what it logs.

    The page stands in a frame: a window of its own cannot be as narrow as a phone.
    """
    text = path.read_text("utf-8").replace("</body>", f"{LOOK}</body>")
    frame = f'<iframe srcdoc="{html.escape(text)}" width="{width}" height="900"'
    framed = profile.with_suffix(".html")
    framed.write_text(f'<!DOCTYPE html>{frame} style="border: 0"></iframe>', "utf-8")
    done = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"),
            f"--user-data-dir={profile}",
            "--window-size=1600,1000",
            "--virtual-time-budget=5000",
            *("--dump-dom", framed.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    seen = re.search(r"data-seen=\"(.*?)\"", done.stdout)
    assert seen, done.stderr[-2000:]
    return json.loads(html.unescape(seen[1])), done.stderr


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_overflow_errors_or_broken_images(
    folder, width, tmp_path
):
    seen, log = look(folder / "report.html", width, tmp_path / "profile")
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    assert len(seen["images"]) == 7 and min(seen["images"]) > 0
    # No picture shrinks past reading, or is wider than the window.
    assert 200 < min(seen["widths"]) <= max(seen["widths"]) < width
    assert "CONSOLE" not in log


# From the command


def test_a_run_ends_with_its_report_unless_told_otherwise(cache, tmp_path):
    plain = [part for part in TINY if part != "--no-report"]
    arguments = ["lt4rec.base_ctr", *plain, "--seeds", "1", "--data.cache", str(cache)]
    arguments += ["--workdir", str(tmp_path / "run")]
    assert run.main([*arguments, "--no-report"]) == 0
    assert not (tmp_path / "run" / "report.html").exists()
    assert run.main(arguments) == 0
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for words in (
        "base ctr",
        "Learning curves",
        "ROC and calibration",
        "experiments.run",
    ):
        assert words in text
    study = read_study(tmp_path / "run")
    assert study.about["counts"].keys() == {"train", "validation", "test"}
    assert study.about["tasks"]["click"] == "AUC"
    assert study.curves["rows"]["lt4rec.base_ctr"]["ctr"]["roc"][-1] == 1.0
