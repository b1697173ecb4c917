"""A stranger's file can at worst be refused: bugs found, and what is never done."""

import ast
import gzip
import io
import json
import stat
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.running import workdir
from experiments.tuning import tuned
from jaxmtl import sealed
from jaxmtl.data import store
from jaxmtl.data.encoding import Encoding
from jaxmtl.data.reading import catalogue, tfrecord
from jaxmtl.data.sources import (
    aliexpress,
    criteo_uplift,
    hillstrom,
    kuairand,
    movielens,
    own_log,
)
from jaxmtl.data.sources.own_log import description as own_log_description
from jaxmtl.serving import bundle, scoring
from qa.fuzz import logs, stored
from qa.fuzz.cases import valid_files
from qa.fuzz.forms import frame

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [p for part in ("jaxmtl", "experiments") for p in (ROOT / part).rglob("*.py")]
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
FORBIDDEN_MODULES |= {"marshal", "tarfile", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "compile"}
DEEP = "[" * 100_000


def dangers(tree: ast.AST) -> list[str]:
    """What could run code that stands in a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            found += sorted(names & FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += sorted({node.module.partition(".")[0]} & FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in FORBIDDEN_CALLS or called == "torch.load":
                found.append(called)
            if called in ("np.load", "numpy.load", "np.lib.format.read_array"):
                found += [called] * (given.get("allow_pickle") != "False")
    return found


def test_nothing_is_unpickled_or_evaluated():
    for path in SOURCES:
        assert not dangers(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from yaml import load",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
    ],
)
def test_that_search_finds_what_it_looks_for(line):
    assert dangers(ast.parse(line))


def make_archive(path: Path, name: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-100k/u.data", "1\t2\t3\t4\n")
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "/etc/passwd")
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../outside", 0),
        ("ml-100k/../../outside", 0),
        ("/tmp/outside", 0),
        ("..\\outside", 0),
        ("ml-100k/link", stat.S_IFLNK | 0o777),
    ],
)
def test_an_archive_that_leads_outside_its_folder_is_refused(tmp_path, name, mode):
    (tmp_path / "in").mkdir()
    archive = make_archive(tmp_path / "in" / "a.zip", name, mode)
    with pytest.raises(ValueError, match=r"a\.zip: member .* leads outside"):
        catalogue._unpack(archive)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.zip"]  # nothing is left


def test_an_archive_cut_short_is_refused_and_leaves_nothing(tmp_path):
    archive = make_archive(tmp_path / "a.zip", "ml-100k/u.user")
    content = bytearray(archive.read_bytes())
    content[50] ^= 255
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip: "):
        catalogue._unpack(archive)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


# What the fuzzer found, one bug a case


def test_a_description_that_is_no_text_or_too_deep_is_named(tmp_path):
    for name, content in [
        ("a.toml", b'name = "\xff"'),
        ("b.json", DEEP.encode()),
        ("c.toml", b"a = " + DEEP.encode()),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            own_log_description.load(tmp_path / name)


def test_a_log_whose_split_is_empty_is_named(tmp_path):
    logs.READERS["own_csv"].write(tmp_path)
    table = logs.own_table() | {"ts": [1] * 40}
    logs.write_table(tmp_path / "log.csv", table)
    with pytest.raises(ValueError, match=r"log\.csv: split: column 'ts' holds"):
        own_log.read(tmp_path / "log.csv", tmp_path / logs.KEPT)


@pytest.mark.parametrize("length", [2**31, 2**62, 2**63 + 1])
def test_a_record_that_claims_more_than_the_file_holds_is_refused(tmp_path, length):
    for name, pack in (("plain", bytes), ("packed", gzip.compress)):
        (tmp_path / name).write_bytes(pack(frame(b"payload", length)))
        with pytest.raises(ValueError, match=f"{name}, record 0: claims"):
            list(tfrecord.read_examples(tmp_path / name))


def changed(reader: str, folder: Path, name: str, old: bytes, new: bytes) -> Path:
    """A valid input with one piece of one file replaced, once."""
    valid_files(logs.READERS[reader], folder)
    content = (folder / name).read_bytes()
    content = gzip.decompress(content) if name.endswith(".gz") else content
    assert old in content
    content = content.replace(old, new, 1)
    packed = gzip.compress(content) if name.endswith(".gz") else content
    (folder / name).write_bytes(packed)
    return folder


@pytest.mark.parametrize("number", [b"inf", b"-inf", b"nan", b"1e39", b"1e308"])
def test_a_number_that_would_spoil_a_columns_scale_is_named(tmp_path, number):
    valid = (valid_files(logs.READERS["criteo_uplift"], tmp_path / "valid")).popitem()
    first = gzip.decompress(valid[1]).split(b"\n")[1].partition(b",")[0]
    folder = changed(
        "criteo_uplift", tmp_path / "log", valid[0], b"\n" + first, b"\n" + number
    )
    with pytest.raises(ValueError, match=r"v2\.1\.csv\.gz, line 2, column 'f0': "):
        criteo_uplift.read(folder)


@pytest.mark.parametrize("id_", [-1, 2**31, -(2**40)])
def test_an_id_that_is_none_is_named(tmp_path, id_):
    table = logs._kuairand_log(32) | {"tab": [id_] + [0] * 31}
    logs.write_table(tmp_path / "joined.csv", table)
    with pytest.raises(ValueError, match=r"joined\.csv, line 2, column 'tab': "):
        kuairand.read(tmp_path / "joined.csv")
    logs.READERS["aliexpress"].write(tmp_path)
    lines = (tmp_path / "test.csv").read_text().splitlines()
    lines[3] = lines[3].split(",", 2)[0] + f",{id_}," + lines[3].split(",", 2)[2]
    (tmp_path / "test.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"test\.csv, line 4, column 'categorical_1'"):
        for blocks in aliexpress.read(tmp_path).splits.values():
            list(blocks)


def test_a_duration_next_to_nothing_is_watched_whole(tmp_path):
    table = logs._kuairand_log(32) | {"duration_ms": [1e-320] + [6000] * 31}
    table["play_time_ms"][0] = 10
    logs.write_table(tmp_path / "joined.csv", table)
    blocks = [
        b for s in kuairand.read(tmp_path / "joined.csv").splits.values() for b in s
    ]
    watch = np.concatenate([block.labels["watch"] for block in blocks])
    assert np.isfinite(watch).all() and watch.max() == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\t1\t1600000000", b"\t1.5\t1600000000", r"inter, line 2, column 'rating"),
        (b"\t1600000000", b"\t1e19", r"inter, line 2, column 'timestamp"),
    ],
)
def test_a_rating_is_never_rounded(tmp_path, old, new, message):
    args = ("movielens_recbole", tmp_path / "log", "ml-100k.inter", old, new)
    with pytest.raises(ValueError, match=message):
        movielens.read(changed(*args))


def test_a_user_without_an_occupation_is_named(tmp_path):
    args = ("movielens_recbole", tmp_path / "log", "ml-100k.user", b"artist", b"")
    with pytest.raises(ValueError, match=r"user, line 2, column 'occupation"):
        movielens.read(changed(*args))


@pytest.mark.parametrize("reader", [criteo_uplift, hillstrom], ids=["criteo", "hill"])
def test_a_damaged_gzip_stream_is_named(tmp_path, reader):
    name = {criteo_uplift: criteo_uplift.NAMES[0], hillstrom: hillstrom.NAMES[0]}[
        reader
    ]
    whole = gzip.compress(bytes(range(256)) * 40)
    for content in (whole[:-20], whole[:40] + b"\xff\x00\xff" + whole[43:]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            reader.read(tmp_path)


def test_a_column_whose_header_is_no_python_is_named(tmp_path):
    valid_files(stored.READERS["prepared_columns"], tmp_path / "log")
    path = tmp_path / "log" / "set" / "train" / "ids.npy"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'shape': (", b"'shape': [("))
    with pytest.raises(ValueError, match=r"ids\.npy"):
        store.open_columns(tmp_path / "log" / "set", "")


def test_work_directory_files_that_are_none_are_named(tmp_path):
    (tmp_path / "a.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"a\.json"):
        workdir.read_json(tmp_path / "a.json")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x", "no array")
    (tmp_path / "b.npz").write_bytes(packed.getvalue())
    with pytest.raises(ValueError, match=r"b\.npz: \['x'\] are no arrays"):
        workdir.read_arrays(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.array([{}], object))
    with pytest.raises(ValueError, match="no whole archive of arrays"):
        sealed.read_arrays(tmp_path / "c.npy")


@pytest.mark.parametrize(
    "change",
    [{"trials": "x"}, {"seeds": [{}]}, {"anchors": [[]]}, {"seeds": 3}],
)
def test_a_budget_of_other_types_is_refused(tmp_path, change):
    stored.READERS["tuned"].write(tmp_path)
    content = json.loads((tmp_path / "tuned.json").read_text())
    content["budget"] |= change
    (tmp_path / "tuned.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tuned\.json: not a file of"):
        tuned.read(tmp_path / "tuned.json")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema", "fields", 0, "slots"), "1"),
        (("schema", "fields", 0, "slots"), 2**40),
        (("schema", "vocabularies", 0, "size"), 2**40),
        (("schema", "tasks", 0, "kind"), "other"),
        (("schema", "tasks", 0, "high"), float("inf")),
        (("schema", "tasks", 0, "name"), None),
        (("numeric", "hour", "deviation"), 0),
        (("numeric", "hour", "mean"), float("nan")),
        (("separators", "tags"), ""),
        (("missing",), [1]),
        (("vocabularies",), {}),
    ],
)
def test_an_encoding_of_other_kinds_is_refused(path, value):
    raw = json.loads(stored.ENCODING.to_json())
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match="no encoding that to_json wrote"):
        Encoding.from_json(json.dumps(raw))


# An exported folder that a stranger has sealed


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    stored.READERS["export"].write(folder)
    return folder / "out"


@pytest.fixture
def folder(exported, tmp_path):
    copy = tmp_path / "out"
    copy.mkdir()
    for file in exported.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def rewrite(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_manifest_that_names_files_elsewhere_is_refused(folder):
    rewrite(folder / bundle.MANIFEST, lambda m: m["files"].update({"../x": "0"}))
    with pytest.raises(bundle.DamagedBundle, match="outside"):
        scoring.load(folder)


def test_a_program_elsewhere_is_never_opened(folder):
    rewrite(
        folder / scoring.PROGRAMS,
        lambda p: p["programs"][0].update(file="../../program0.jax"),
    )
    bundle.seal(folder)
    with pytest.raises(bundle.DamagedBundle, match="outside the folder"):
        scoring.load(folder)


def test_a_shape_that_nothing_stored_fills_makes_no_room(folder):
    def enlarge(net):
        leaf = next(leaf for leaf in net["leaves"] if leaf["shape"])
        leaf["shape"] = [2**20, 2**20]

    rewrite(folder / bundle.NET, enlarge)
    with pytest.raises(bundle.DamagedBundle, match="values at most"):
        bundle.read(folder)


def test_a_program_that_calls_code_of_the_machine_is_refused(folder):
    like = jax.ShapeDtypeStruct((2,), jnp.float32)
    allowed = jax.export.DisabledSafetyCheck.custom_call("run_something")
    exported = jax.export.export(
        jax.jit(lambda x: jax.ffi.ffi_call("run_something", like)(x)),
        disabled_checks=[allowed],
        platforms=("cpu",),
    )(like)
    (folder / "program0.jax").write_bytes(exported.serialize())
    bundle.seal(folder)
    with pytest.raises(bundle.DamagedBundle, match=r"calls \['run_something'\]"):
        scoring.load(folder)


def test_a_program_of_other_arguments_is_refused_before_it_is_compiled(folder):
    (folder / "program0.jax").write_bytes((folder / "program1.jax").read_bytes())
    rewrite(
        folder / scoring.SCHEMA,
        lambda s: (s["schema"]["numeric"].clear(), s["numeric"].clear()),
    )
    bundle.seal(folder)
    with pytest.raises(bundle.DamagedBundle, match="does not fit"):
        scoring.load(folder)
