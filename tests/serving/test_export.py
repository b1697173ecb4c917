"""An exported folder scores raw rows as evaluation does, without what trained it."""

import csv
import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_rows, make_schema, make_setup

from jaxmtl import models, score
from jaxmtl.data.encoding import prepared
from jaxmtl.layers.crossing import Crossing, crossed
from jaxmtl.serving import bundle, compact, export, scoring
from jaxmtl.sparsity import masks, pruning
from jaxmtl.training import inference, train_state
from jaxmtl.training.spec import Conflict
from jaxmtl.types import PADDING, Task

ROWS = make_rows(70, seed=9)
TICKETS = {"tasks": ("click", "watch"), "architecture": models.SharedTrunk((8, 6))}
FUNNEL = {"tasks": ("click", "like"), "summed": True, "masked": False}
DENSE = {"tasks": ("click", "watch"), "summed": True, "masked": False}
FAMILIES = {
    "single task": {
        "tasks": ("watch",),
        "masked": False,
        "crossing": Crossing("crnn", depth=2, hidden=3),
    },
    "hard sharing": DENSE
    | {
        "architecture": models.HardSharing((8, 6)),
        "crossing": Crossing("cin", depth=2, maps=3),
    },
    "s_weight": TICKETS,
    "s_neuron": TICKETS
    | {"tasks": ("click", "like"), "conflict": Conflict("like", 5.0, 0.5)},
    "multi-view": TICKETS
    | {"own_dims": (("watch", 2),), "crossing": Crossing("elementwise")},
    "four tasks": TICKETS
    | {
        "tasks": ("click", "watch", "like", "share"),
        "crossing": Crossing("dcn", depth=2),
    },
    "shared_bottom": DENSE | {"architecture": models.SharedBottom((6,), (3,))},
    "mmoe": DENSE | {"architecture": models.Mmoe(2, (6, 4), (3,))},
    "mmoe tickets": TICKETS | {"architecture": models.Mmoe(2, (6, 4), (3,))},
    "omoe": DENSE | {"architecture": models.Omoe(2, (6, 4), (3,))},
    "ple": DENSE | {"architecture": models.Ple(2, 1, 1, (6, 4), (3,))},
    "cross_stitch": DENSE | {"architecture": models.CrossStitch((6, 4))},
    "esmm": FUNNEL | {"architecture": models.Esmm((6, 4)), "spaces": "product"},
    "aitm": FUNNEL | {"architecture": models.Aitm((6, 4)), "spaces": "impression"},
    "dcrnn": DENSE | {"architecture": models.Dcrnn(2, 1, hidden=3, tower=(3,))},
}
WEIGHTS = (("click", 2.0), ("like", 7.0))
"""Of positives: predictions of the funnels' models are recalibrated."""


def schema_of(family):
    schema = make_schema()
    share = (Task("share", space="like"),)
    tasks = schema.tasks + share if family == "four tasks" else schema.tasks
    return dataclasses.replace(schema, tasks=tasks)


def trained(family):
    """A setup, random parameters (biases too), and masks."""
    first = "focal" if family == "aitm" else "log"  # recalibrated too
    setup = make_setup(
        schema=schema_of(family),
        task_losses=(
            ("click", first),
            ("like", "log"),
            ("share", "log"),
            ("watch", "squared"),
        ),
        positive_weights=WEIGHTS if family in ("esmm", "aitm") else (),
        **FAMILIES[family],
    )
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32)
    state = train_state.init_shapes(setup)
    snapshot = jax.tree.map(draw, jax.eval_shape(train_state.snapshot_of, state))
    task_masks = train_state.dense_masks(setup, snapshot.net)
    if setup.masked:
        prune = pruning.prune_neurons if family == "s_neuron" else random
        task_masks = {
            task: prune(snapshot.net, full, masks.count(full) // 4)
            for task, full in task_masks.items()
        }
    return setup, snapshot, task_masks


def random(net, full, keep):
    rng = np.random.default_rng(keep)
    share = keep / masks.count(full)
    return jax.tree.map(lambda m: jnp.asarray(rng.random(m.shape) < share), full)


def as_table(schema, rows) -> pa.Table:
    columns, at = {}, 0
    for field in schema.fields:
        part = rows.ids[:, at : at + field.slots].tolist()
        at += field.slots
        lists = [[i for i in row if i != PADDING] for row in part]
        columns[field.name] = lists if field.slots > 1 else [row[0] for row in part]
    return pa.table(columns | dict(zip(schema.numeric, rows.numeric.T, strict=True)))


def evaluated(setup, snapshot, task_masks, rows=ROWS):
    return inference.predict_all(setup, snapshot, task_masks, rows, chunk=128)


def assert_scores(got, want):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(
            got[name], want[name], rtol=2e-5, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_scores_raw_rows_as_evaluation_does(tmp_path, family):
    setup, snapshot, task_masks = trained(family)
    encoding, platforms = prepared(setup.schema), ("cpu",)
    made = (setup, snapshot, task_masks, encoding)
    export.export(tmp_path / "out", *made, platforms=platforms)
    scorer = scoring.load(tmp_path / "out")
    want = evaluated(setup, snapshot, task_masks)
    assert max(np.ptp(column) for column in want.values()) > 1e-3
    (batch,) = as_table(setup.schema, ROWS).to_batches()
    assert_scores(scorer.score(batch), want)
    kind = "subnets" if family == "mmoe tickets" else "chains"
    assert scorer.program.kind == (kind if setup.masked else "net")


@pytest.mark.parametrize("family", ["hard sharing", "s_weight", "mmoe tickets"])
def test_programs_compute_in_the_precision_that_was_trained(family):
    """Within a few roundings of evaluation; to float32's it is much further."""
    full, snapshot, task_masks = trained(family)
    output = dataclasses.replace(full.spec.output, precision="bfloat16")
    setup = dataclasses.replace(
        full, spec=dataclasses.replace(full.spec, output=output)
    )
    kind = export.kind_of(setup)
    marks = task_masks if setup.masked else dict.fromkeys(setup.tasks)
    held = bundle.Bundle(snapshot.net, marks, dict(snapshot.tables))
    read = np.ones(len(setup.schema.fields), bool)
    program = jax.jit(export.make_program(setup, kind, setup.tasks, read))
    net = scoring.read_net(held, kind, setup.tasks)
    got = program(held.tables, net, ROWS.ids, ROWS.numeric)
    want, float32 = (evaluated(s, snapshot, task_masks) for s in (setup, full))
    apart = lambda found: max(np.abs(found[n] - want[n]).mean() for n in want)
    assert apart(got) < apart(float32) / 3


# One folder for the rest


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder of two tasks' tickets, and what it was made of."""
    folder = tmp_path_factory.mktemp("exported") / "made" / "out"
    parts = trained("s_weight")
    export.export(folder, *parts, prepared(parts[0].schema))
    return folder, parts


@pytest.fixture(scope="module")
def scorer(exported):
    return scoring.load(exported[0])


def test_edge_rows_are_scored_as_evaluation_does(exported, scorer):
    """Nothing known, no tag at all, all slots filled; 1, 2 and 3 rows at once."""
    _, parts = exported
    ids = np.array([[0, 0, -1, -1, -1, 0], [20, 30, 7, 7, 1, 30], [1, 1, 3, -1, -1, 0]])
    numeric = np.array([[0], [-1e3], [1e3]], np.float32)
    few = jax.tree.map(lambda column: column[:3], ROWS)
    few = few._replace(ids=ids.astype(np.int32), numeric=numeric)
    want = evaluated(*parts, few)
    for n in (1, 2, 3):
        got = scorer.predict(few.ids[:n], few.numeric[:n])
        assert_scores(got, {name: column[:n] for name, column in want.items()})
    assert scorer.predict(few.ids[:0], few.numeric[:0])["click"].shape == (0,)


def test_a_new_id_scores_as_the_unknown_one(exported, scorer):
    (batch,) = as_table(make_schema(), ROWS).to_batches()
    names, columns = batch.schema.names, list(batch.columns)
    new = pa.array([10**9] * ROWS.num_rows)
    columns[names.index("item")] = new
    unknown = np.array(ROWS.ids)
    unknown[:, 1] = 0
    want = evaluated(*exported[1], ROWS._replace(ids=unknown))
    assert_scores(scorer.score(pa.RecordBatch.from_arrays(columns, names=names)), want)


def test_missing_columns_are_named(scorer):
    rows = as_table(make_schema(), ROWS).drop_columns(["item", "hour"]).to_batches()[0]
    with pytest.raises(ValueError, match=r"lack the columns \['item', 'hour'\]"):
        scorer.score(rows)


def test_one_task_alone_is_scored_by_a_program_of_its_own(exported, scorer):
    folder, _ = exported
    alone = scoring.load(folder, ["watch"])
    assert alone.program.tasks == ("watch",)
    both = scorer.predict(ROWS.ids, ROWS.numeric)
    got = alone.predict(ROWS.ids, ROWS.numeric)
    # Clicked and watched: the one who predicts no click cannot tell.
    assert set(got) == {"watch"} and set(both) == {"click", "watch", "joint.watch"}
    np.testing.assert_allclose(got["watch"], both["watch"], rtol=1e-5)
    with pytest.raises(ValueError, match=r"no program predicts \['like'\]"):
        scoring.load(folder, ["like"])


def test_a_field_that_no_kept_weight_depends_on_is_not_looked_up(tmp_path):
    setup, snapshot, task_masks = trained("s_weight")
    depends = compact.dependence(
        lambda features: crossed(features.shared, "inner"),
        train_state.features_like(setup),
    )
    tags = np.flatnonzero(depends[2])

    def without_tags(mask):
        first = mask["shared"]["layer00"]
        first = first | {"kernel": first["kernel"].at[tags].set(False)}
        return mask | {"shared": mask["shared"] | {"layer00": first}}

    pruned = {task: without_tags(mask) for task, mask in task_masks.items()}
    encoding = prepared(setup.schema)
    export.export(tmp_path / "out", setup, snapshot, pruned, encoding)
    scorer = scoring.load(tmp_path / "out")
    assert scorer.program.fields == ("user", "item", "last_item")
    got = scorer.predict(ROWS.ids, ROWS.numeric)
    assert_scores(got, evaluated(setup, snapshot, pruned))
    read = np.array([True, True, False, True])
    net = scoring.read_net(bundle.read(tmp_path / "out"), "chains", setup.tasks)
    program = export.make_program(setup, "chains", setup.tasks, read)
    lowered = jax.jit(program).lower(snapshot.tables, net, ROWS.ids, ROWS.numeric)
    shapes = [line for line in lowered.as_text().splitlines() if "gather" in line]
    assert not any("x6x4xf32" in line.split("->")[-1] for line in shapes)


@pytest.mark.parametrize("name", ["program0.jax", scoring.SCHEMA, scoring.PROGRAMS])
def test_a_damaged_file_is_refused_by_name_before_anything_runs(
    exported, tmp_path, name
):
    folder, _ = exported
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(bundle.DamagedBundle, match=f"{name} is missing or not what"):
        scoring.load(copy)


def test_programs_run_on_every_platform_and_hold_no_weights(exported):
    folder, _ = exported
    programs = scoring.read_programs(folder)
    assert [p.tasks for p in programs] == [("click", "watch"), ("click",), ("watch",)]
    for program in programs:
        content = bytearray((folder / program.file).read_bytes())
        loaded = jax.export.deserialize(content)
        assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
        assert not isinstance(loaded.in_avals[-1].shape[0], int)  # any number
    held = json.loads((folder / scoring.PROGRAMS).read_text())
    assert held["platforms"] == ["cpu", "cuda", "tpu"]


def test_a_folder_that_holds_something_is_left_alone(exported, tmp_path):
    _, parts = exported
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(ValueError, match="is there already"):
        export.export(tmp_path, *parts, prepared(parts[0].schema))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_encoding_of_another_schema_is_refused(exported, tmp_path):
    other = dataclasses.replace(make_schema(), numeric=())
    with pytest.raises(ValueError, match="encoding is of schema"):
        export.export(tmp_path / "out", *exported[1], prepared(other))


# The command


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same rows as Parquet and as CSV."""
    folder, table = tmp_path_factory.mktemp("rows"), as_table(make_schema(), ROWS)
    pq.write_table(table, folder / "rows.parquet", row_group_size=32)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for row in table.to_pylist():
            row["tags"] = "|".join(map(str, row["tags"]))
            row["hour"] = repr(float(np.float32(row["hour"])))
            writer.writerow(row.values())
    return folder


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_the_command_scores_a_file_in_its_order(
    exported, files, tmp_path, name, capsys
):
    folder, parts = exported
    out = tmp_path / "scores.csv"
    assert score.main([str(folder), str(files / name), "--out", str(out)]) == 0
    with out.open() as file:
        lines = list(csv.DictReader(file))
    want = evaluated(*parts)
    got = {n: np.array([line[n] for line in lines], np.float32) for n in want}
    assert_scores(got, want)
    assert "70 rows scored" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_the_ending_decides_the_form_of_the_scores(exported, files, tmp_path):
    folder, parts = exported
    out = tmp_path / "scores.parquet"
    arguments = [str(folder), str(files / "rows.csv"), "--out"]
    assert score.main([*arguments, str(out)]) == 0
    got = {n: c.to_numpy() for n, c in zip(*_columns(pq.read_table(out)), strict=True)}
    assert_scores(got, evaluated(*parts))
    assert score.main([*arguments, str(tmp_path / "scores.txt")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def _columns(table: pa.Table):
    return table.column_names, table.columns


@pytest.mark.parametrize("out", ["rows.csv", "../in/rows.csv", "link.csv", "hard.csv"])
def test_scores_never_replace_the_rows(exported, files, tmp_path, out, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = folder / "rows.csv"
    rows.write_bytes((files / "rows.csv").read_bytes())
    (folder / "link.csv").symlink_to(rows)
    (folder / "hard.csv").hardlink_to(rows)
    arguments = [str(exported[0]), str(rows), "--out", str(folder / out)]
    assert score.main(arguments) == 1
    assert f"is the rows {rows}" in capsys.readouterr().err
    assert rows.read_bytes() == (files / "rows.csv").read_bytes()
    assert len(list(folder.iterdir())) == 3


def test_scores_are_kept_out_of_what_is_read(exported, files, tmp_path, capsys):
    exported_folder = exported[0]
    before = sorted(path.name for path in exported_folder.iterdir())
    (tmp_path / "rows.csv").write_bytes((files / "rows.csv").read_bytes())
    arguments = [str(exported_folder), str(tmp_path), "--out"]
    for out in (tmp_path / "scores.csv", exported_folder / "scores.csv"):
        assert score.main([*arguments, str(out)]) == 1
        assert "lies inside the" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert sorted(path.name for path in exported_folder.iterdir()) == before


def test_a_disk_that_fills_up_names_the_scores(
    exported, files, tmp_path, monkeypatch, capsys
):
    class Full:
        def __init__(self, path, schema):
            path.write_text("half")

        def write_table(self, table):
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(score.WRITERS, ".csv", Full)
    out = tmp_path / "scores.csv"
    arguments = [str(exported[0]), str(files / "rows.csv"), "--out", str(out)]
    assert score.main(arguments) == 1
    assert f"{out} cannot be written: [Errno 28]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_names_file_row_and_column_of_a_bad_value(
    exported, files, tmp_path, capsys
):
    lines = (files / "rows.csv").read_text().splitlines()
    lines[41] = lines[41].rpartition(",")[0] + ",noon"
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    out = tmp_path / "scores.csv"
    folder, _ = exported
    assert score.main([str(folder), str(tmp_path / "bad.csv"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "bad.csv, row 41, column 'hour': 'noon' is not a number" in error
    assert not out.exists()
    gone = ["user,item,tags,hour", "1,1,,0"]
    (tmp_path / "gone.csv").write_text("\n".join(gone))
    assert score.main([str(folder), str(tmp_path / "gone.csv"), "--out", str(out)]) == 1
    assert "no column 'last_item'" in capsys.readouterr().err


def test_the_command_refuses_a_file_without_a_row(exported, tmp_path, capsys):
    columns = make_schema(), ROWS._replace(ids=ROWS.ids[:0], numeric=ROWS.numeric[:0])
    pq.write_table(as_table(*columns), tmp_path / "none.parquet")
    (tmp_path / "none.csv").write_text("user,item,tags,last_item,hour\n")
    for name in ("none.parquet", "none.csv"):
        rows, out = str(tmp_path / name), tmp_path / "scores.csv"
        assert score.main([str(exported[0]), rows, "--out", str(out)]) == 1
        assert f"{name} holds no row" in capsys.readouterr().err
        assert not out.exists()


def test_serving_imports_nothing_that_trains(exported, files, tmp_path):
    folder, _ = exported
    code = (
        "import sys; from jaxmtl import score;"
        f"assert score.main([{str(folder)!r}, {str(files / 'rows.csv')!r},"
        f" '--out', {str(tmp_path / 's.csv')!r}]) == 0;"
        "roots = {name.partition('.')[0] for name in sys.modules};"
        "bad = roots & {'flax', 'orbax', 'optax', 'experiments', 'matplotlib',"
        " 'tensorflow_datasets', 'tyro'};"
        "assert not bad, bad;"
        "ours = {n for n in sys.modules if n.startswith('jaxmtl.')};"
        "assert not any(n.startswith(('jaxmtl.training', 'jaxmtl.models'))"
        " for n in ours), ours"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
