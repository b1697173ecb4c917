"""Ali-CCP: the streamed join against a slow one, what is kept, and bad files."""

import collections
import gc
import tempfile

import jax
import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.benchmarks.ali_ccp import write_files
from jaxmtl.data import store
from jaxmtl.data.sources import ali_ccp
from jaxmtl.data.sources.ali_ccp import AliCcpOptions
from jaxmtl.data.sources.ali_ccp import join as ali_ccp_join
from jaxmtl.data.sources.ali_ccp import preprocessed as ali_ccp_preprocessed
from jaxmtl.data.sources.ali_ccp import protocol as ali_ccp_protocol
from jaxmtl.data.sources.ali_ccp import stage as ali_ccp_stage
from jaxmtl.data.sources.ali_ccp import text as ali_ccp_text
from jaxmtl.data.store.checks import check_rows
from jaxmtl.types import PADDING, UNKNOWN, Field

USER = [*ali_ccp_protocol.PROFILE, *ali_ccp_protocol.HISTORY]
OWN = ["205", "206", "207", "210", "216", "508", "509", "702", "853", "301"]
MANY = {"109_14", "110_14", "127_14", "150_14", "210", "853"}


def make_list(rng, fields) -> list[tuple[str, int, float]]:
    """Features in no order; some fields are missing, some hold many ids."""
    features = []
    for field in fields:
        many = rng.integers(0, 6) if field in MANY else rng.random() < 0.8
        for _ in range(many):
            value = rng.choice([1.0, 0.69315, 2.5, 2.5, -1.0])
            features.append((field, int(rng.integers(1, 9)), float(value)))
    return [features[i] for i in rng.permutation(len(features))]


def make_part(seed: int, rows: int, lines: int) -> tuple[list, dict]:
    """Impressions (sample_id, click, buy, md5, features), and features by MD5."""
    rng = np.random.default_rng(seed)
    md5s = [f"{rng.integers(2**63):016x}" for _ in range(lines)]
    common = {md5: make_list(rng, USER) for md5 in md5s}
    impressions = []
    for row in range(rows):
        click, buy = int(rng.random() < 0.4), int(rng.random() < 0.2)
        md5 = md5s[rng.integers(lines)]
        impressions.append((row + 1, click, buy, md5, make_list(rng, OWN)))
    return impressions, common


def encode_list(features) -> str:
    text = "\x01".join(f"{name}\x02{id}\x03{value}" for name, id, value in features)
    return f"{len(features)},{text}"


def write_part(folder, part: str, impressions, common) -> None:
    skeleton = [
        f"{number},{click},{buy},{md5},{encode_list(features)}\n"
        for number, click, buy, md5, features in impressions
    ]
    shared = [f"{md5},{encode_list(features)}\n" for md5, features in common.items()]
    (folder / f"sample_skeleton_{part}.csv").write_text("".join(skeleton))
    (folder / f"common_features_{part}.csv").write_text("".join(shared))


def write(folder, rows: int = 300) -> dict:
    parts = {"train": make_part(0, rows, 20), "test": make_part(1, rows // 2, 15)}
    for part, (impressions, common) in parts.items():
        write_part(folder, part, impressions, common)
    return parts


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


@pytest.fixture
def scratch(tmp_path_factory, monkeypatch):
    """The folder in which temporary folders lie."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def small_blocks(monkeypatch):
    """A few lines of text and a few rows a block."""
    monkeypatch.setattr(ali_ccp_text, "BLOCK_BYTES", 1500)
    for module in (ali_ccp_stage, ali_ccp_join):
        monkeypatch.setattr(module, "BLOCK_ROWS", 7)


def joined(blocks):
    return jax.tree.map(lambda *columns: np.concatenate(columns), *blocks)


def validates(sample_id: int, share: float, seed: int) -> bool:
    """SplitMix64, in Python's whole numbers."""
    x = (sample_id + seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return (x ^ x >> 31) < share * 2**64


def slow_join(parts: dict, options: AliCcpOptions) -> tuple[dict, dict]:
    """Split -> its rows as lists, and field -> its known ids, one by one."""
    splits = {"train": [], "validation": [], "test": []}
    for part, (impressions, common) in parts.items():
        for number, click, buy, md5, features in impressions:
            if options.protocol == "usual" and buy and not click:
                continue
            held = validates(number, options.validation, options.seed)
            split = "validation" if part == "train" and held else part
            raw = {}
            for field in USER + OWN:
                found = [f for f in common[md5] + features if f[0] == field]
                found.sort(key=lambda feature: -feature[2])  # stable
                ids = [id for _, id, _ in found]
                slots = options.slots if field in MANY else 1
                raw[field] = ids[:slots] or [0] * (slots == 1)
            splits[split].append((raw, click, buy))
    counts = {field: collections.Counter() for field in USER + OWN}
    for raw, _, _ in splits["train"]:
        for field, ids in raw.items():
            counts[field].update(ids)
    least = options.min_count if options.protocol == "usual" else 1
    return splits, {
        field: sorted(id for id, n in count.items() if n >= least)
        for field, count in counts.items()
    }


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "options",
    [
        AliCcpOptions(min_count=3, slots=2, validation=0.2),
        AliCcpOptions(min_count=60, slots=1, validation=0.5, seed=3),
        AliCcpOptions("dcrnn", min_count=60, slots=4),
    ],
)
def test_the_streamed_join_equals_a_slow_one(tmp_path, options):
    parts = write(tmp_path)
    log = ali_ccp.read(tmp_path, options)
    splits, known = slow_join(parts, options)
    assert [v.size for v in log.schema.vocabularies] == [
        1 + len(known[name]) for name in USER + OWN
    ]
    for split, expected in splits.items():
        blocks = list(log.splits[split])
        assert all(block.num_rows <= 7 for block in blocks) and len(blocks) > 1
        rows = joined(blocks)
        check_rows(log.schema, rows, split)
        assert rows.num_rows == len(expected)
        for at, (raw, click, buy) in enumerate(expected):
            ids = []
            for field in log.schema.fields:
                own = [
                    1 + known[field.name].index(i) if i in known[field.name] else 0
                    for i in raw[field.name]
                ]
                ids += own + [PADDING] * (field.slots - len(own))
            assert rows.ids[at].tolist() == ids
            assert rows.labels["click"][at] == click
            assert rows.labels["conversion"][at] == buy
            assert rows.groups["user"][at] == raw["101"][0]
            assert rows.groups["item"][at] == raw["205"][0]


def test_the_size_of_blocks_changes_no_row(folder, monkeypatch):
    options = AliCcpOptions(min_count=2)
    whole = ali_ccp.read(folder, options)
    monkeypatch.setattr(ali_ccp_text, "BLOCK_BYTES", 33)  # shorter than a line
    monkeypatch.setattr(ali_ccp_join, "BLOCK_ROWS", 1)
    pieces = ali_ccp.read(folder, options)
    assert pieces.schema == whole.schema and pieces.counts == whole.counts
    for split, blocks in whole.splits.items():
        assert_same_bits(joined(pieces.splits[split]), joined(blocks))


FIELDS = (Field("205", "205"), Field("210", "210", slots=3))


def place(*features: tuple[str, int, float], n: int = 1) -> list:
    """The slots of a line's features."""
    names = tuple(dict.fromkeys(name for name, _, _ in features))
    table = ali_ccp_text.Features(
        line=np.zeros(len(features), np.int64),
        field=np.array([names.index(name) for name, _, _ in features], np.int32),
        id=np.array([id for _, id, _ in features], np.int32),
        value=np.array([value for _, _, value in features], np.float32),
        names=names,
    )
    return ali_ccp_text.place(FIELDS, table, n).tolist()


def test_a_field_of_many_keeps_the_ids_of_the_highest_values():
    features = [("210", 1, 0.5), ("210", 2, 3.0), ("205", 9, 1.0), ("210", 3, -1.0)]
    assert place(*features) == [[9, 2, 1, 3]]
    assert place(*features, ("210", 4, 0.5)) == [[9, 2, 1, 4]]


def test_no_id_is_a_value_of_its_own_where_there_is_one_and_padding_among_many():
    assert place(n=2) == [[ali_ccp_text.MISSING, PADDING, PADDING, PADDING]] * 2
    assert place(("999", 5, 1.0), ("210", 7, 1.0)) == [[0, 7, PADDING, PADDING]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["205", "210", "x"]),
            st.integers(1, 2**31 - 1),
            st.sampled_from([-2.0, -0.5, 0.0, 1.0, 1.5, 1e30]),
        ),
        max_size=12,
    )
)
def test_slots_are_those_of_a_stable_sort_by_value(features):
    expected = []
    for field, empty in zip(FIELDS, (ali_ccp_text.MISSING, PADDING), strict=True):
        found = sorted((f for f in features if f[0] == field.name), key=lambda f: -f[2])
        ids = [id for _, id, _ in found][: field.slots]
        expected += ids + [empty] * (field.slots - len(ids))
    assert place(*features) == [expected]


def test_rows_bought_without_a_click_are_left_out_of_the_usual_protocol_alone(folder):
    usual = ali_ccp.read(folder, AliCcpOptions())
    assert usual.counts["read"] == 450
    wrong = usual.counts["dropped: buy without click"]
    assert wrong > 20 and usual.counts["kept"] == 450 - wrong
    for blocks in usual.splits.values():
        for rows in blocks:
            assert (rows.labels["conversion"] <= rows.labels["click"]).all()
    assert ali_ccp.read(folder, AliCcpOptions("dcrnn")).counts["kept"] == 450


@pytest.mark.usefixtures("small_blocks")
def test_a_sample_holds_that_many_rows_of_each_file_and_none_twice(tmp_path):
    parts = write(tmp_path)
    for part, (impressions, common) in parts.items():
        # The item names the row, so that a row drawn twice would show.
        rows = [(*row[:4], [("205", row[0], 1.0)]) for row in impressions]
        write_part(tmp_path, part, rows, common)
    options = AliCcpOptions("dcrnn", sample=100)
    log = ali_ccp.read(tmp_path, options)
    assert log.counts["kept"] == 200 and log.counts["dropped: not sampled"] == 250
    train = joined([*log.splits["train"], *log.splits["validation"]])
    drawn = train.groups["item"]
    assert len(set(drawn.tolist())) == drawn.size == 100
    # Drawn from the whole file: its halves hold about as many.
    assert 30 <= (drawn <= 150).sum() <= 70
    again = ali_ccp.read(tmp_path, options)
    other = ali_ccp.read(tmp_path, AliCcpOptions("dcrnn", sample=100, seed=1))
    assert_same_bits(joined(again.splits["test"]), joined(log.splits["test"]))
    items = [
        set(joined(x.splits["test"]).groups["item"].tolist()) for x in (log, other)
    ]
    assert items[0] != items[1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.data())
def test_a_draw_is_exact_however_the_file_falls_into_blocks(sizes, data):
    rows = 1 + sum(sizes)
    wanted = data.draw(st.integers(1, rows))
    options = AliCcpOptions("dcrnn", sample=wanted)
    selection = ali_ccp_protocol.Selection(options, rows, "file")
    no = [np.zeros(size, bool) for size in (*sizes, 1)]
    assert sum(int(selection.keep(block, block).sum()) for block in no) == wanted


def test_a_sample_larger_than_the_file_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"train.csv holds 300 rows, fewer than .* 301"
    ):
        ali_ccp.read(folder, AliCcpOptions(sample=301))


def test_a_row_validates_whatever_else_the_file_holds():
    options = AliCcpOptions(validation=0.1)
    ids = np.arange(1, 20_001)
    held = ali_ccp_protocol.is_validation(ids, options)
    assert abs(held.mean() - 0.1) < 0.01
    shuffled = np.random.default_rng(0).permutation(ids.size)
    again = ali_ccp_protocol.is_validation(ids[shuffled], options)
    np.testing.assert_array_equal(again, held[shuffled])
    assert [validates(i, 0.1, 0) for i in range(1, 200)] == held[:199].tolist()


def test_ids_that_training_shows_too_seldom_are_unknown(folder):
    log = ali_ccp.read(folder, AliCcpOptions(min_count=10**6))
    assert {v.size for v in log.schema.vocabularies} == {1}
    for blocks in log.splits.values():
        assert joined(blocks).ids.max() == UNKNOWN


def test_of_common_features_with_one_md5_the_last_count(folder):
    md5 = (folder / "sample_skeleton_train.csv").read_text().split(",")[3]
    with open(folder / "common_features_train.csv", "a") as file:
        file.write(f"{md5},1,101\x0277\x031.0")  # and the last line has no end
    log = ali_ccp.read(folder, AliCcpOptions("dcrnn", validation=1e-9))
    assert joined(log.splits["train"]).groups["user"][0] == 77


def test_lines_that_end_as_on_windows_are_read_alike(folder):
    options = AliCcpOptions(min_count=2)
    log = ali_ccp.read(folder, options)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    other = ali_ccp.read(folder, options)
    for split, blocks in log.splits.items():
        assert_same_bits(joined(other.splits[split]), joined(blocks))


def test_features_of_other_fields_are_left_out_and_said_so(folder):
    with open(folder / "common_features_test.csv", "a") as file:
        file.write("abc,2,101\x021\x031.0\x01999\x025\x031.0\n")
    *_, note = ali_ccp.read(folder).notes
    assert "999 (1)" in note


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "damage, message",
    [
        ("301,2,0,{md5},1,205\x021\x031", "invalid value '2'"),
        ("301,1,0,{md5},1", "Expected 6 columns, got 5"),
        ("301,1,0,{md5},1,205\x021\x031,7", "Expected 6 columns, got 7"),
        ("", "line 301"),
        ("301,1,0,{md5},2,205\x021\x031", "holds 1 features, the line says 2"),
        ("301,1,0,{md5},1,205\x02one\x031", "is no list of features"),
        ("301,1,0,{md5},1,205\x022147483648\x031", "is no list of features"),
        ("301,1,0,{md5},1,205\x02-3\x031", "is no list of features"),
        ("301,1,0,{md5},1,205\x021", "is no list of features"),
        ("301,1,0,{md5},1,205\x021\x03x", "is no list of features"),
        ("301,1,0,{md5},1,205\x021\x031\x01210", "is no list of features"),
        ("301,1,0,00ff,1,205\x021\x031", "holds no line with the MD5 '00ff'"),
        ("301,1,0,,1,205\x021\x031", "holds no line with the MD5 ''"),
    ],
)
def test_a_damaged_line_of_a_skeleton_is_named(folder, scratch, damage, message):
    file = folder / "sample_skeleton_train.csv"
    lines = file.read_text().splitlines()
    lines.append(damage.format(md5=lines[0].split(",")[3]))
    file.write_text("\n".join([*lines, *lines[:40], ""]))
    with pytest.raises(ValueError) as error:
        ali_ccp.read(folder)
    assert str(file) in str(error.value)
    assert "line 301" in str(error.value)
    assert message in str(error.value)
    gc.collect()
    assert not list(scratch.glob("jaxmtl-*"))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "damage", [",1,101\x021\x031", "f" * 33 + ",1,101\x021\x031", "ff,2,101\x021\x031"]
)
def test_a_damaged_line_of_common_features_is_named(folder, damage):
    file = folder / "common_features_test.csv"
    file.write_text(file.read_text() + damage + "\n")
    with pytest.raises(ValueError, match=r"common_features_test.csv, line 16: "):
        ali_ccp.read(folder)


def test_a_file_that_names_its_columns_or_holds_nothing_is_refused(folder):
    file = folder / "sample_skeleton_test.csv"
    text = file.read_text()
    file.write_text("sample_id,click,buy,common_feature_md5,num,features\n" + text)
    with pytest.raises(
        ValueError, match="line 1: .*'sample_id'.* no names in the first"
    ):
        ali_ccp.read(folder)
    file.write_text("")
    with pytest.raises(ValueError, match="sample_skeleton_test.csv holds no row"):
        ali_ccp.read(folder)


def test_missing_files_are_named_with_where_to_get_them(folder):
    (folder / "common_features_test.csv").unlink()
    (folder / "sample_skeleton_train.csv").unlink()
    with pytest.raises(ValueError) as error:
        ali_ccp.read(folder)
    text = str(error.value)
    assert f"{folder} holds no sample_skeleton_train.csv, common_features_test" in text
    assert "dataId=408" in text and "unpack both into that folder" in text


@pytest.mark.parametrize(
    "options", [{"min_count": 0}, {"slots": 0}, {"sample": 0}, {"validation": 1.0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{[*options][0]} is .*; expected"):
        AliCcpOptions(**options)


def test_prepared_rows_are_the_logs(folder, tmp_path_factory):
    log = ali_ccp.read(folder, AliCcpOptions(min_count=2))
    cache = tmp_path_factory.mktemp("cache")
    data = store.prepare("ali_ccp", {}, lambda: log, cache, lambda text: None)
    for split, blocks in log.splits.items():
        assert_same_bits(data.splits[split], joined(blocks))
    assert "not to be redistributed" in " ".join(data.notes)


def test_the_temporary_folder_lives_as_long_as_the_log(folder, scratch):
    log = ali_ccp.read(folder)
    test = log.splits["test"]
    del log
    gc.collect()
    assert len(list(scratch.glob("jaxmtl-*"))) == 1
    assert joined(test).num_rows > 0
    del test
    gc.collect()
    assert not list(scratch.glob("jaxmtl-*"))


def write_preprocessed(folder, changes: dict | None = None) -> dict[str, np.ndarray]:
    """Three files of the same 40 rows; returns their columns."""
    rng = np.random.default_rng(0)
    columns = {
        "click": rng.integers(0, 2, 40),
        "purchase": rng.integers(0, 2, 40),
        **{field.name: rng.integers(0, 9, 40) for field in ali_ccp_preprocessed.FIELDS},
        **{
            name: rng.normal(3, 2, 40).round(4) for name in ali_ccp_preprocessed.NUMERIC
        },
    }
    columns |= changes or {}
    lines = [columns, *zip(*columns.values(), strict=True)]
    text = "".join(",".join(map(str, line)) + "\n" for line in lines)
    for split in ("train", "val", "test"):
        (folder / f"ali_ccp_{split}.csv").write_text(text)
    return columns


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("protocol", ["usual", "dcrnn"])
def test_the_preprocessed_form_is_read_as_it_stands(tmp_path, protocol):
    columns = write_preprocessed(tmp_path)
    log = ali_ccp.read(tmp_path, AliCcpOptions(protocol, min_count=4))
    click, buy = (columns[name].astype(bool) for name in ("click", "purchase"))
    kept = click | ~buy if protocol == "usual" else np.ones(40, bool)
    assert log.counts["kept"] == 3 * kept.sum()
    numeric = np.stack([columns[name] for name in log.schema.numeric], axis=1)[kept]
    numeric = (numeric - numeric.mean(axis=0)) / numeric.std(axis=0)
    for split, blocks in log.splits.items():
        rows = joined(blocks)
        check_rows(log.schema, rows, split)
        np.testing.assert_allclose(rows.numeric, numeric, atol=1e-5)
        np.testing.assert_array_equal(rows.labels["click"], click[kept])
        np.testing.assert_array_equal(rows.labels["conversion"], buy[kept])
        for at, field in enumerate(log.schema.fields):
            raw = columns[field.name][kept]
            values, times = np.unique(raw, return_counts=True)
            known = values[times >= (4 if protocol == "usual" else 1)].tolist()
            ids = [1 + known.index(i) if i in known else UNKNOWN for i in raw.tolist()]
            assert rows.ids[:, at].tolist() == ids


def test_a_sample_of_the_preprocessed_form_leaves_validation_whole(tmp_path):
    write_preprocessed(tmp_path)
    log = ali_ccp.read(tmp_path, AliCcpOptions("dcrnn", sample=10))
    sizes = {split: joined(blocks).num_rows for split, blocks in log.splits.items()}
    assert sizes == {"train": 10, "validation": 40, "test": 10}
    assert_same_bits(joined(log.splits["test"]), joined(log.splits["test"]))


def test_a_bad_preprocessed_file_is_named(tmp_path):
    ids = np.arange(40)
    write_preprocessed(tmp_path, {"206": np.where(ids == 5, -1, ids)})
    with pytest.raises(ValueError, match="ali_ccp_train.csv, line 7: an id is below 0"):
        ali_ccp.read(tmp_path)
    write_preprocessed(tmp_path, {"click": np.where(ids == 5, 2, 1)})
    with pytest.raises(ValueError, match="ali_ccp_train.csv: .*line 7: .*value '2'"):
        ali_ccp.read(tmp_path)
    text = (tmp_path / "ali_ccp_train.csv").read_text()
    (tmp_path / "ali_ccp_train.csv").write_text(text.replace(",205,", ",x,", 1))
    with pytest.raises(ValueError, match="ali_ccp_train.csv: .*'205'"):
        ali_ccp.read(tmp_path)
    (tmp_path / "ali_ccp_val.csv").unlink()
    with pytest.raises(ValueError, match=r"no ali_ccp_val\*.csv; put all three there"):
        ali_ccp.read(tmp_path)


def test_the_fragments_hold_what_is_known_of_them(shared_data):
    log = ali_ccp.read(shared_data / "ali_ccp_fragment", AliCcpOptions(min_count=1))
    rows = {split: joined(blocks) for split, blocks in log.splits.items()}
    for split in rows:
        check_rows(log.schema, rows[split], split)
    assert {s: r.num_rows for s, r in rows.items()} == {
        "train": 100,
        "validation": 50,
        "test": 50,
    }
    assert log.schema.numeric[0] == "D109_14" and rows["train"].numeric.shape[1] == 8
    spread = rows["train"].numeric.std(axis=0)
    np.testing.assert_allclose(spread[spread > 0], 1, atol=1e-5)


def test_the_benchmarks_files_hold_the_published_rates(tmp_path):
    write_files(tmp_path, 40_000)
    log = ali_ccp.read(tmp_path)
    assert log.counts["read"] == 44_000
    train = joined(log.splits["train"])
    assert abs(train.labels["click"].mean() - 0.0389) < 0.004
    assert 0 < train.labels["conversion"].sum() < 30
    assert (tmp_path / "sample_skeleton_train.csv").stat().st_size / 40_000 > 200
    # Whom and what a row is about tells something of its label.
    for group in ("user", "item"):
        ids, of = np.unique(train.groups[group], return_inverse=True)
        times = np.bincount(of)
        rate = np.bincount(of, train.labels["click"]) / times
        assert rate[times >= 50].std() > 0.02 or ids.size > 10_000
