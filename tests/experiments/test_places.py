"""Where commands run and write: terminals, working directories, inputs as outputs."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from experiments import export, redraw, run, status, tune
from experiments.analysis.figures import own_style, save
from experiments.benchmarks import __main__ as benchmarks
from experiments.running import hosts
from experiments.running.workdir import read_json, write_json
from experiments.settings import ablation
from experiments.tuning import trials
from jaxmtl import console, places, studies
from jaxmtl.data import store
from jaxmtl.data.store import tfds_builder
from jaxmtl.devices import distributed

ROOT = Path(__file__).resolve().parents[2]


def python(*words, cwd, keep=(), **environment):
    """A Python process that finds this checkout by PYTHONPATH alone."""
    kept = ("PATH", "HOME", "JAX_COMPILATION_CACHE_DIR")
    known = {name: os.environ[name] for name in kept if name in os.environ}
    known |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=known,
        capture_output=True,
        timeout=300,
        check=False,
        **dict(keep),
    )


# Outputs and inputs


@pytest.fixture
def rows(tmp_path):
    """A file of rows and a folder of parts, in a folder of their own."""
    folder = tmp_path / "in"
    (folder / "parts").mkdir(parents=True)
    for name in ("rows.csv", "parts/one.csv"):
        (folder / name).write_text("a\n1\n")
    return folder


def same(rows):
    return rows / "rows.csv"


def spelled_otherwise(rows):
    return rows / "parts" / ".." / "rows.csv"


def symlink(rows):
    (rows / "other.csv").symlink_to("rows.csv")
    return rows / "other.csv"


def symlinked_folder(rows):
    (rows.parent / "link").symlink_to(rows)
    return rows.parent / "link" / "rows.csv"


def hard_link(rows):
    os.link(rows / "rows.csv", rows / "other.csv")
    return rows / "other.csv"


@pytest.mark.parametrize(
    "name", [same, spelled_otherwise, symlink, symlinked_folder, hard_link]
)
def test_a_file_is_refused_as_its_own_input_by_whatever_name(name, rows):
    out = name(rows)
    with pytest.raises(ValueError, match="--out .* is --rows "):
        places.check_file("--out", out, (".csv",), {"--rows": rows / "rows.csv"})


def test_a_file_in_a_folder_that_is_read_is_refused(rows):
    inputs = {"--rows": rows / "parts"}
    os.link(rows / "parts" / "one.csv", rows / "linked.csv")
    for name in ("parts/new.csv", "parts/one.csv", "linked.csv"):
        with pytest.raises(ValueError, match="lies inside --rows"):
            places.check_file("--out", rows / name, (".csv",), inputs)
    places.check_file("--out", rows / "new.csv", (".csv",), inputs)
    places.check_file("--out", rows / "rows.csv", (".csv",), inputs)


def test_a_folder_is_kept_apart_from_what_is_read(rows):
    inputs = {"--data.path": rows / "rows.csv", "--tuned": None}
    for out, words in [(rows, "holds"), (rows / "rows.csv", "is --data.path")]:
        with pytest.raises(ValueError, match=f"--workdir .*{words}"):
            places.check_folder("--workdir", out, inputs)
    with pytest.raises(ValueError, match="lies inside"):
        places.check_folder("--workdir", rows / "run", {"--data.path": rows})
    places.check_folder("--workdir", rows / "run", inputs)
    assert not (rows / "run").exists()


def test_a_place_that_cannot_be_written_is_refused(rows, monkeypatch):
    with pytest.raises(ValueError, match=r"rows\.csv is a file; give a folder"):
        places.check_folder("--workdir", rows / "rows.csv" / "run", {})
    with pytest.raises(ValueError, match="it is a file; give a folder"):
        places.check_folder("--workdir", rows / "rows.csv", {})
    with pytest.raises(ValueError, match=f"no folder {rows / 'no'}; make it"):
        places.check_file("--out", rows / "no" / "x.csv", (".csv",), {})
    with pytest.raises(ValueError, match="is there and no file"):
        (rows / "folder.csv").mkdir()
        places.check_file("--out", rows / "folder.csv", (".csv",), {})
    monkeypatch.setattr(os, "access", lambda path, mode: path != rows)  # root may all
    for path in (rows / "x.csv", rows / "new" / "run"):
        with pytest.raises(ValueError, match=f"the folder {rows} cannot be written"):
            if path.suffix:
                places.check_file("--out", path, (".csv",), {})
            else:
                places.check_folder("--out", path, {})


def test_a_name_that_is_no_text_is_refused(tmp_path):
    name = tmp_path / os.fsdecode(b"w\xff")
    with pytest.raises(ValueError, match=r"--workdir .*w\\udcff.*PYTHONUTF8=1"):
        places.check_folder("--workdir", name, {})
    with pytest.raises(ValueError, match="no text here"):
        places.check_file("--out", name.with_suffix(".csv"), (".csv",), {})


def test_an_ending_says_the_form_or_is_refused(tmp_path):
    for name in ("scores", "scores.txt", "scores.csv.gz", "csv"):
        with pytest.raises(ValueError, match=r"ends with \.csv or \.parquet"):
            places.check_file("--out", tmp_path / name, (".csv", ".parquet"), {})
    places.check_file("--out", tmp_path / "SCORES.CSV", (".csv", ".parquet"), {})


# Seen before any work


def forbidden(*args, **kwargs):
    raise AssertionError("no work should have begun")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("--workdir log.csv", ["--workdir log.csv", "is --data.path"]),
        ("--workdir .", ["--workdir .", "holds --data.path"]),
        ("--workdir other.csv/run", ["--workdir other.csv/run", "is a file"]),
    ],
)
@pytest.mark.parametrize("command", [run, tune], ids=["run", "tune"])
def test_a_work_directory_is_looked_at_before_the_log_is_read(
    command, settings, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("log.csv", "other.csv"):
        (tmp_path / name).write_text("a\n")
    monkeypatch.setattr("experiments.settings.sources.load", forbidden)
    log = ["--data.name", "own_log", "--data.path", "log.csv"]
    assert command.main(["lt4rec.base_ctr", *log, *settings.split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and all(word in error for word in words), error
    assert sorted(os.listdir()) == ["log.csv", "other.csv"]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("tuned.csv", "ends with .json"),
        ("no/tuned.json", "no folder no"),
        ("schema.json", "is --data.schema"),
    ],
)
def test_where_a_tuning_is_written_is_looked_at_first(
    out, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("schema.json").write_text("{}")
    monkeypatch.setattr("experiments.settings.sources.load", forbidden)
    arguments = ["lt4rec.base_ctr", "--data.schema", "schema.json", "--out", out]
    assert tune.main(arguments) == 1
    assert words in capsys.readouterr().err
    assert os.listdir() == ["schema.json"]


def test_without_optuna_a_tuning_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(trials, "optuna", None)
    assert tune.main(["lt4rec.base_ctr"]) == 1
    assert "pip install -e '.[tune]'" in capsys.readouterr().err


def test_an_export_looks_where_it_writes_before_it_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "read", forbidden)
    (tmp_path / "file").write_text("")
    for out, words in [("file", "is there already"), ("file/out", "file is a file")]:
        assert export.main([str(tmp_path), "--out", str(tmp_path / out)]) == 1
        assert words in capsys.readouterr().err


def test_benchmarks_and_redraw_look_where_they_write_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    assert benchmarks.main(benchmarks.Options(("step",), out=out)) == 1
    assert redraw.main([str(tmp_path), "--out", str(out)]) == 1
    assert capsys.readouterr().err.count("file is a file; give a folder") == 2


@pytest.mark.parametrize("error", [RuntimeError("no such backend"), AssertionError()])
def test_a_platform_that_is_not_there_is_named(error, monkeypatch):
    def devices():
        raise error

    monkeypatch.setattr(distributed.jax, "devices", devices)
    with pytest.raises(ValueError, match="JAX_PLATFORMS is .*nset it"):
        distributed.check_devices()


@pytest.mark.parametrize(
    ("variable", "value"), [("JAX_ENABLE_X64", "1"), ("JAX_DEFAULT_PRNG_IMPL", "rbg")]
)
def test_a_variable_that_changes_numbers_is_refused(
    variable, value, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("experiments.settings.sources.load", forbidden)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)  # as JAX reads it when it is imported
    monkeypatch.setattr(hosts.jax, "config", Configured(variable.lower()))
    for command in (run, tune):
        assert command.main(["lt4rec.base_ctr"]) == 1
        error = capsys.readouterr().err
        assert f"{variable} is {value!r}" in error and "unset it" in error


class Configured:
    """JAX's configuration, with another value for one name."""

    def __init__(self, other):
        self._other = other

    def __getattr__(self, name):
        return "other" if name == self._other else hosts.NUMBERS[name]


# Homes and caches


def test_the_cache_is_the_homes_unless_another_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXMTL_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.default_cache() == tmp_path / ".cache" / "jaxmtl"
    monkeypatch.setenv("JAXMTL_CACHE", str(tmp_path / "mine"))
    assert places.default_cache() == tmp_path / "mine"


def test_who_has_no_home_has_a_temporary_cache(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("JAXMTL_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert places.default_cache().name == f"jaxmtl-{os.getuid()}"


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/cache: .*--data\.cache.*JAXMTL_CACHE"):
        store.prepare("log", {}, forbidden, tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    "error",
    [OSError(28, store.FULL), RuntimeError(f"write() failed: {store.FULL}; writing")],
)
def test_a_cache_that_fills_up_is_named_and_left_empty(error, tmp_path, monkeypatch):
    def build(*args):
        raise error

    monkeypatch.setattr(tfds_builder, "build", build)
    with pytest.raises(
        ValueError, match=f"written to {tmp_path}: .*{store.FULL}; make"
    ):
        store.prepare("log", {}, lambda: None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_result_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*x\.json'"):
        write_json(tmp_path / "x.json", {})


# Terminals and pipes


BEAR = """
import sys
from jaxmtl import console
def main():
    for _ in range(2000):
        print("± é", "x" * 60, flush=True)
    print("worked on", file=sys.stderr)
    return 3
sys.exit(console.run(main))
"""


def test_a_sign_that_the_terminal_lacks_is_a_question_mark(tmp_path):
    done = python("-c", BEAR, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 3 and done.stdout.startswith(b"? ? xxx"), done.stderr


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_a_closed_stream_ends_nothing(closed, tmp_path):
    close = lambda: [os.close(number) for number in closed]
    child = "import os; os.write(1, b'x')"  # a process of its own has them too
    code = BEAR.replace(
        "return 3",
        f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}],"
        " check=True); return 3",
    )
    done = python("-c", code, cwd=tmp_path, keep={"preexec_fn": close})
    assert done.returncode == 3
    assert done.stderr == (b"" if 2 in closed else b"worked on\n")


def test_a_reader_that_goes_away_ends_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", BEAR],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    process.stdout.close()
    assert process.stderr.read() == b"worked on\n"
    assert process.wait(60) == 3
    process.stderr.close()


def test_a_terminal_of_no_width_is_taken_for_a_narrow_one(tmp_path):
    code = (
        "import os; from jaxmtl import console;"
        "raise SystemExit(console.run(lambda: int(os.environ['COLUMNS'])))"
    )
    assert python("-c", code, cwd=tmp_path, COLUMNS="1").returncode == 20
    assert python("-c", code, cwd=tmp_path, COLUMNS="70").returncode == 70


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_is_lost_is_told(tmp_path):
    code = "import sys; from jaxmtl import console\ndef main():\n print('x')\n return 0"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nsys.exit(console.run(main))"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: what is printed cannot be written")
    assert done.stderr.count(b"\n") == 1


def test_what_is_no_text_in_a_path_is_kept_readable(tmp_path):
    word = os.fsdecode(b"w\xff")
    assert console.as_typed(["a", word]) == "a 'w\\xff'"
    assert console.as_typed(["é".encode().decode("ascii", "surrogateescape")]) == "'é'"
    write_json(tmp_path / "x.json", {"path": word})
    assert read_json(tmp_path / "x.json") == {"path": word}


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red"}):
        with own_style():
            figure = Figure()
            figure.add_subplot().set_title("x")
            save(figure, tmp_path / "x.png")
        assert matplotlib.rcParams["text.usetex"]


# Without docstrings, and from any directory


def test_commands_do_without_docstrings(monkeypatch, capsys):
    monkeypatch.setattr(ablation.load("lt4rec.base_ctr"), "__doc__", None)
    monkeypatch.setattr(status, "__doc__", None)
    assert run.main(["--list"]) == 0
    assert "lt4rec.base_ctr" in capsys.readouterr().out
    with contextlib.suppress(SystemExit):
        status.main(["--help"])
    assert "experiments.status" in capsys.readouterr().out


@pytest.fixture
def elsewhere(tmp_path):
    """A working directory with an `experiments` of its own."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise RuntimeError('wrong')")
    return tmp_path


STUDY = "import sys; sys.argv[0] = 'bin/jaxmtl-run'; from jaxmtl import studies;"


@pytest.mark.parametrize("safe", [{}, {"PYTHONSAFEPATH": "1"}])
def test_studies_run_where_another_experiments_lies(elsewhere, safe):
    code = f"{STUDY} sys.exit(studies.main())"
    done = python("-c", code, "--list", cwd=elsewhere, **safe)
    assert done.returncode == 0, done.stderr
    assert b"lt4rec.table2" in done.stdout


def test_without_a_checkout_a_study_says_where_it_is(tmp_path, capsys):
    assert studies.run("jaxmtl-run", tmp_path) == 1
    error = capsys.readouterr().err
    assert "git clone" in error and str(tmp_path) in error and error.count("\n") == 1


@pytest.mark.parametrize("module", studies.COMMANDS.values())
def test_every_command_of_the_package_has_a_main(module):
    __import__(module)
    assert callable(sys.modules[module].main)


def test_the_package_brings_no_other_name_and_all_of_its_commands():
    import tomllib

    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert about["tool"]["setuptools"]["packages"]["find"]["include"] == ["jaxmtl*"]
    scripts = about["project"]["scripts"]
    assert {*scripts} == {*studies.COMMANDS, "jaxmtl-score"}
