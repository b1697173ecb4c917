import json

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from experiments.analysis import figures, statistics
from experiments.analysis.figures import table_figures
from experiments.analysis.report import effects, rendering
from experiments.analysis.table import RowResult, build_table, describe_environment
from experiments.settings import scores
from experiments.settings.layout import DCRNN, LT4REC
from jaxmtl import metrics
from jaxmtl.data.store import Dataset
from jaxmtl.metrics import Metric
from jaxmtl.types import Field, Rows, Schema, Task, Vocabulary

SEEDS = [0, 1, 2]
CVR = {
    "base_cvr": [0.140, 0.142, 0.144],
    "hard_sharing": [0.138, 0.141, 0.141],
    "s_weight": [0.130, 0.133, 0.137],
}
CTR = {
    "base_ctr": [0.70, 0.72, 0.71],
    "hard_sharing": [0.71, 0.72, 0.73],
    "s_weight": [0.71, 0.74, 0.73],
}
PAPER = {
    "base_ctr": {"ctr.auc": 0.78572},
    "base_cvr": {"cvr.mse": 0.13688},
    "hard_sharing": {"cvr.mse": 0.13563, "ctr.auc": 0.78808},
    "s_weight": {"cvr.mse": 0.13226, "ctr.auc": 0.78874},
}


def row(name, n_seeds=3, **changes):
    metrics = {}
    if name in CVR:
        metrics["cvr.mse"] = [Metric(v, 40, 38, "click") for v in CVR[name]]
    if name in CTR:
        metrics["ctr.auc"] = [Metric(v, 100, 40) for v in CTR[name]]
    result = RowResult(
        row=name.replace("_", "-"),
        module=f"lt4rec.{name}",
        paper=PAPER[name],
        seeds=SEEDS[:n_seeds],
        metrics={name: values[:n_seeds] for name, values in metrics.items()},
        params=1234,
        density={"ctr": 0.447, "cvr": 0.2} if name == "s_weight" else {},
        seconds=12.4,
    )
    return result._replace(**changes)


def oracle():
    metrics = {
        "cvr.mse": [Metric(0.07, 40, 38, "click")],
        "ctr.auc": [Metric(0.9, 100, 40)],
    }
    return RowResult("oracle", "", {}, [], metrics, None, {}, 0.0)


def rows(n_seeds=3):
    return [row(name, n_seeds) for name in PAPER] + [oracle()]


def table(results=None, **about):
    return build_table("lt4rec.table2", "video_feed", results or rows(), **about)


def find(built, name):
    return next(r for r in built["rows"] if r["row"] == name)


def cells(text, name):
    """The cells of a row of the first Markdown table."""
    line = next(x for x in text.splitlines() if x.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def undefined_row():
    nothing = [Metric(None, 12, 0, "click")] * 3
    return row("s_weight", metrics={"like.auc": nothing, "ctr.auc": nothing})


def not_applicable_row():
    return row(
        "s_weight",
        row="s-weight-gradientconflict",
        module="lt4rec.s_weight_gradientconflict",
        seeds=[],
        metrics={},
        params=None,
        density={},
        status="not applicable: the log has no duration",
    )


def test_json_has_the_agreed_keys_and_values():
    built = table(notes=["a note"], environment={"jax": "1"}, command="run it")
    about = {"table", "layout", "data", "seeds", "seconds", "rows", "command"}
    about |= {"environment", "resamples"}
    about |= {"notes"}
    assert set(built) == about
    assert (built["table"], built["data"]) == ("lt4rec.table2", "video_feed")
    assert built["seeds"] == SEEDS
    found = find(built, "s-weight")
    keys = {"row", "module", "status", "paper", "metrics", "tests"}
    assert set(found) == keys | {"params", "density", "seconds"}
    assert found["module"] == "lt4rec.s_weight"
    assert found["paper"] == {"cvr.mse": 0.13226, "ctr.auc": 0.78874}
    mse = found["metrics"]["cvr.mse"]
    assert mse["values"] == CVR["s_weight"]
    assert (mse["n"], mse["space"]) == (40, "click")
    mean, low, high = statistics.mean_interval(CVR["s_weight"])
    assert (mse["mean"], mse["ci95"]) == (mean, [low, high])
    assert found["density"] == {"ctr": 0.447, "cvr": 0.2}


def test_written_json_is_strict_and_reads_back(tmp_path):
    built = table([*rows(), not_applicable_row()])
    rendering.write_table(built, tmp_path / "new" / "folder")

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "new" / "folder" / "table.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == built
    markdown = (tmp_path / "new" / "folder" / "table.md").read_text(encoding="utf-8")
    assert markdown == rendering.to_markdown(built)


def test_nan_anywhere_is_refused_before_a_file_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        rendering.write_table(table([row("s_weight", seconds=np.nan)]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_same_results_give_the_same_table_to_the_bit():
    assert json.dumps(table()) == json.dumps(table())


def test_rows_are_tested_against_the_base_of_their_role_and_hard_sharing():
    tests = find(table(), "s-weight")["tests"]
    for metric, values, base in (
        ("cvr.mse", CVR, "base_cvr"),
        ("ctr.auc", CTR, "base_ctr"),
    ):
        for against, baseline in (("vs_base", base), ("vs_hard", "hard_sharing")):
            oracle = scipy.stats.ttest_rel(values["s_weight"], values[baseline])
            found = tests[metric][against]
            assert found["p"] == pytest.approx(oracle.pvalue)
            assert found["ci95"] == pytest.approx(list(oracle.confidence_interval()))
            difference = np.mean(values["s_weight"]) - np.mean(values[baseline])
            assert found["difference"] == pytest.approx(difference)


def test_no_row_is_tested_against_itself():
    built = table()
    assert "vs_hard" not in find(built, "hard-sharing")["tests"]["cvr.mse"]
    assert find(built, "base-ctr")["tests"] == {
        "ctr.auc": {"vs_hard": find(built, "base-ctr")["tests"]["ctr.auc"]["vs_hard"]}
    }


def test_holm_corrects_over_the_rows_of_one_metric_and_baseline():
    built = table()
    names = ("hard-sharing", "s-weight")
    tests = [find(built, name)["tests"]["cvr.mse"]["vs_base"] for name in names]
    adjusted = statistics.holm([test["p"] for test in tests])
    assert [test["p_holm"] for test in tests] == adjusted
    assert adjusted != [test["p"] for test in tests]


def test_rows_are_paired_by_seed_not_by_place():
    shuffled = row("s_weight", seeds=[2, 0, 1])
    metrics = {k: [v[2], v[0], v[1]] for k, v in shuffled.metrics.items()}
    again = table([*rows()[:3], shuffled._replace(metrics=metrics)])
    found = find(again, "s-weight")["tests"]["cvr.mse"]["vs_base"]
    expected = find(table(), "s-weight")["tests"]["cvr.mse"]["vs_base"]
    assert found["p"] == pytest.approx(expected["p"])


def test_rows_with_other_seeds_are_paired_on_those_they_share():
    longer = row("s_weight", seeds=[1, 2, 7])
    found = find(table([*rows()[:3], longer]), "s-weight")["tests"]["cvr.mse"]
    expected = statistics.paired_t(CVR["s_weight"][:2], CVR["base_cvr"][1:])
    assert found["vs_base"]["p"] == expected.p


def test_bootstrap_interval_comes_from_paired_draws():
    draws = np.linspace(0, 1, 41)
    base = row("base_cvr", bootstrap={"cvr.mse": draws})
    ours = row("s_weight", bootstrap={"cvr.mse": draws[::-1]})
    found = find(table([base, ours]), "s-weight")["tests"]["cvr.mse"]["vs_base"]
    expected = statistics.percentile_interval(draws[::-1] - draws)
    assert found["bootstrap_ci95"] == list(expected)
    assert (
        find(table(), "s-weight")["tests"]["cvr.mse"]["vs_base"]["bootstrap_ci95"]
        is None
    )


def test_tests_say_their_family_and_how_often_users_were_drawn():
    draws = np.linspace(0, 1, 2000)
    drawn = [row(name, bootstrap={"cvr.mse": draws}) for name in PAPER if "cvr" in name]
    built = table([*drawn, row("s_weight", bootstrap={"cvr.mse": draws})])
    older = {key: x for key, x in built.items() if key != "resamples"}
    for shown, said in (
        (built, "2,000 paired draws of whole test users"),
        (older, "200 paired draws of whole test users"),  # what they were made with
        (table(), "over users: not drawn"),
    ):
        (section, *_) = rendering.test_sections(shown)
        assert said in section.foot
        assert "over the rows compared with one baseline in this metric" in section.foot
        assert said in rendering.to_markdown(shown)


def test_beside_a_test_stands_the_power_to_find_the_papers_change():
    built = table()
    found = effects.powers(built, "cvr.mse", "base")
    assert found.keys() == {"hard-sharing", "s-weight"}  # the oracle has no test
    # -3.38 % of our .142, the two rows' differences .010, .009 and .007 apart.
    sought = (0.13226 / 0.13688 - 1) * 0.142
    apart = np.std(np.subtract(CVR["s_weight"], CVR["base_cvr"]), ddof=1)
    expected = statistics.power(sought, apart, 3, 0.05 / 2)
    assert found["s-weight"] == pytest.approx(expected)
    # An AUC's change counts in points.
    apart = np.std(np.subtract(CTR["s_weight"], CTR["base_ctr"]), ddof=1)
    expected = statistics.power(0.78874 - 0.78572, apart, 3, 0.05 / 2)
    found = effects.powers(built, "ctr.auc", "base")
    assert found["s-weight"] == pytest.approx(expected)
    text = rendering.to_markdown(built)
    line = [x for x in text.splitlines() if x.startswith("| s-weight ")][-1]
    assert line.split("|")[6].strip() == f"{expected:.2f}"
    assert "power: the chance to decide for the paper's change" in text


def test_without_the_papers_numbers_or_a_test_there_is_no_power():
    unpublished = [row(name, paper={}) for name in PAPER]
    assert set(effects.powers(table(unpublished), "cvr.mse", "base").values()) == {None}
    assert "power" not in rendering.to_markdown(table(unpublished))
    assert effects.powers(table(rows(1)), "cvr.mse", "base") == {}
    other = row("s_weight", seeds=[1, 2, 7])  # shares two of three
    assert effects.powers(table([*rows()[:3], other]), "cvr.mse", "base") == {
        "hard-sharing": None,
        "s-weight": None,
    }
    alone = [r for r in rows() if r.row != "base-cvr"]
    assert effects.powers(table(alone), "cvr.mse", "base") == {}


def test_oracle_has_one_value_and_no_interval_or_p():
    found = find(table(), "oracle")
    assert found["metrics"]["cvr.mse"]["ci95"] is None
    test = found["tests"]["cvr.mse"]["vs_base"]
    assert test["difference"] == pytest.approx(0.07 - 0.142)
    assert (test["ci95"], test["p"], test["p_holm"]) == (None, None, None)
    assert cells(rendering.to_markdown(table()), "oracle")[1:4] == [
        "0.07000",
        "-50.70 %",
        "–",
    ]


def test_one_seed_gives_values_without_intervals_or_p():
    built = table(rows(n_seeds=1))
    found = find(built, "s-weight")
    assert found["metrics"]["cvr.mse"]["ci95"] is None
    assert found["tests"]["cvr.mse"]["vs_base"]["p"] is None
    assert cells(rendering.to_markdown(built), "s-weight")[1:4] == [
        "0.13000",
        "-7.14 %",
        "–",
    ]


def test_undefined_metric_keeps_its_counts_and_is_not_tested():
    built = table([row("base_cvr"), undefined_row()])
    found = find(built, "s-weight")
    assert found["metrics"]["like.auc"] == {
        "mean": None,
        "undefined": "n=12, positives=0",
        "n": 12,
        "positives": 0,
        "space": "click",
    }
    assert found["tests"] == {}
    assert cells(rendering.to_markdown(built), "s-weight")[5] == "undefined"


def test_not_applicable_row_says_why_and_keeps_the_papers_number():
    text = rendering.to_markdown(table([*rows(), not_applicable_row()]))
    found = cells(text, "s-weight-gradientconflict")
    assert found[1:5] == ["n/a", "–", "–", "0.13226 (-3.38 %)"]
    why = "s-weight-gradientconflict: not applicable: the log has no duration"
    assert why in text
    assert why in rendering.to_text(table([*rows(), not_applicable_row()]))


def test_markdown_shows_ours_beside_the_papers_with_change_and_test():
    built = table(notes=["a note"], environment={"jax": "1.2"}, command="run it")
    text = rendering.to_markdown(built)
    p = find(built, "s-weight")["tests"]["cvr.mse"]["vs_base"]["p_holm"]
    # Paper: (.13226 - .13688) / .13688 = -3.38 %, .78874 - .78572 = .00302.
    found = cells(text, "s-weight")
    assert found[1:5] == [
        "0.13333 ± 0.00872",
        "-6.10 %",
        f"{p:.3f}",
        "0.13226 (-3.38 %)",
    ]
    assert found[5].startswith("0.72667 ± ")
    assert found[6] == "+0.01667"
    assert found[8:] == ["0.78874 (+0.00302)", "0.447 / 0.200", "1,234", "12"]
    assert "CVR MSE on click rows (n=40, positives=38)" in text
    for line in ("a note", "jax 1.2", "`run it`", "seeds 0, 1, 2"):
        assert line in text


def test_markdown_and_text_columns_are_aligned():
    built = table([*rows(), not_applicable_row()])
    for line in rendering.to_markdown(built).split("\n\n"):
        if line.startswith("|"):
            assert len({len(x) for x in line.splitlines()}) == 1
    for block in rendering.to_text(built).split("\n\n")[1:4]:
        assert len({len(x) for x in block.splitlines()}) == 1
        assert len(block.splitlines()[0]) <= 100


def test_other_tasks_and_segments_stand_in_tables_of_their_own():
    ours = row("s_weight")
    ours.metrics["like.auc"] = [Metric(0.6, 100, 9)] * 3
    ours.metrics["cvr.mse@B"] = [Metric(0.2, 8, 7, "click")] * 3
    text = rendering.to_markdown(table([*rows()[:3], ours]))
    like, segment = (
        text.split(f"## {title}\n\n")[1].split("\n\n## ")[0]
        for title in ("like, further metrics", "cvr in segment B")
    )
    assert "0.60000" in like and "impression rows (n=100, positives=9)" in like
    assert "0.20000" in segment and "click rows (n=8, positives=7)" in segment
    assert "base-cvr" not in like
    assert text.index("## like") < text.index("## cvr in segment B")


def test_rows_scored_on_other_test_rows_are_refused():
    other = {"cvr.mse": [Metric(0.1, 41, 38, "click")] * 3}
    with pytest.raises(ValueError, match="one test set"):
        table([row("base_cvr"), row("s_weight", metrics=other)])


def test_values_that_do_not_fit_are_refused_by_row_and_metric():
    short = {"cvr.mse": [Metric(0.1, 40, 38, "click")] * 2}
    with pytest.raises(ValueError, match=r"'s-weight': cvr.mse has 2 values"):
        table([row("s_weight", metrics=short)])
    nan = {"cvr.mse": [Metric(float("nan"), 40, 38, "click")] * 3}
    with pytest.raises(ValueError, match=r"'s-weight': cvr.mse is nan"):
        table([row("s_weight", metrics=nan)])


def test_environment_is_json_and_names_versions_device_and_threads():
    found = json.loads(json.dumps(describe_environment(), allow_nan=False))
    assert {"python", "jax", "numpy", "device", "threads"} <= set(found)
    assert found["threads"] >= 1


def pixels(path):
    """The picture's pixels, after a check that something was drawn on it."""
    picture = imread(path)[..., :3]
    assert picture.shape[0] > 300 and picture.shape[1] > 500
    assert picture.std() > 0.02
    return picture


def area(picture, colour):
    """Fraction of the pixels that have the colour."""
    return (np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.01).mean()


def pruning_rounds(n_seeds, values=None):
    density = [1.0, 0.6687, 0.4472]
    values = values or np.random.default_rng(0).random((n_seeds, 3)).tolist()
    panel = {"density": density, "values": values, "chosen": [1] * n_seeds}
    return {"CVR": {"metric": "MSE", **panel}, "CTR": {"metric": "AUC", **panel}}


@pytest.mark.parametrize("n_seeds", [1, 4])
def test_figure4_draws_the_mean_and_rings_the_chosen_rounds(tmp_path, n_seeds):
    table_figures.figure4(pruning_rounds(n_seeds), tmp_path / "new" / "figure4.png")
    picture = pixels(tmp_path / "new" / "figure4.png")
    assert area(picture, figures.BLUE) and area(picture, figures.VERMILION)


def test_figure4_leaves_undefined_rounds_out(tmp_path):
    values = [[0.1, None, 0.2], [0.2, None, None]]
    table_figures.figure4(pruning_rounds(2, values), tmp_path / "some.png")
    assert area(pixels(tmp_path / "some.png"), figures.BLUE)
    table_figures.figure4(pruning_rounds(2, [[None] * 3] * 2), tmp_path / "none.png")
    assert not area(pixels(tmp_path / "none.png"), figures.BLUE)


def test_figure4_refuses_rounds_that_do_not_fit():
    with pytest.raises(ValueError, match=r"CVR: values have shape \(1, 2\)"):
        table_figures.figure4(pruning_rounds(1, [[0.1, 0.2]]), "never written.png")
    with pytest.raises(ValueError, match="at least one task"):
        table_figures.figure4({}, "never written.png")


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_table_figure_draws_rows_and_points_to_the_oracle(tmp_path, n_seeds):
    table_figures.table_figure(table(rows(n_seeds)), tmp_path / "table.png")
    picture = pixels(tmp_path / "table.png")
    assert area(picture, figures.BLUE) and area(picture, figures.VERMILION)


def test_table_figure_of_undefined_values_is_still_drawn(tmp_path):
    built = table([undefined_row(), not_applicable_row()])
    table_figures.table_figure(built, tmp_path / "table.png")
    assert not area(pixels(tmp_path / "table.png"), figures.BLUE)


def mask(kernel):
    layer = {"kernel": np.asarray(kernel), "bias": None}
    return {"shared": {"mlp": {"layer00": layer}}, "tasks": {"click": None}}


def test_mask_maps_show_four_colours_in_their_fractions(tmp_path):
    a = mask([[True, True, False, False]])
    b = mask([[True, False, True, False]])
    table_figures.mask_maps({"click": a, "watch": b}, tmp_path / "masks.png")
    picture = pixels(tmp_path / "masks.png")
    colours = (figures.PALE, figures.ORANGE, figures.PURPLE, figures.GREEN)
    areas = [area(picture, colour) for colour in colours]
    assert min(areas) > 0.1
    assert max(areas) < 1.1 * min(areas)


def test_masks_with_experts_and_towers_meet_in_what_is_shared():
    """Experts are stacked, [experts, inputs, outputs]; a tower is one task's."""

    def mask(task, experts):
        tower = {"layer00": {"kernel": np.ones((4, 1), bool)}}
        shared = {"experts": {"layer00": {"kernel": experts, "bias": None}}}
        return {"shared": shared, "tasks": {task: tower}}

    a, b = np.zeros((2, 3, 2), bool), np.zeros((2, 3, 2), bool)
    a[0, 1, 0] = a[1, 2, 1] = b[1, 2, 1] = b[1, 0, 0] = True
    kinds = table_figures.meet({"click": mask("click", a), "watch": mask("watch", b)})
    expected = [[0, 0, 2, 0], [1, 0, 0, 0], [0, 0, 0, 3]]
    assert kinds.keys() == {"experts/layer00"}
    np.testing.assert_array_equal(kinds["experts/layer00"], expected)


def test_mask_maps_refuse_masks_they_cannot_compare():
    one = mask([[True]])
    with pytest.raises(ValueError, match=r"two tasks; got \['click'\]"):
        table_figures.mask_maps({"click": one}, "never written.png")
    empty = {"shared": {}, "tasks": {}}
    with pytest.raises(ValueError, match="same layers; 'click' has .*layer00"):
        table_figures.mask_maps({"click": one, "watch": empty}, "never written.png")


# Another paper's layout

AUCS = {
    "mmoe": {"ctr": [0.60, 0.61, 0.62], "cvr": [0.70, 0.71, 0.70]},
    "mmoe_matched": {"ctr": [0.59, 0.61, 0.60], "cvr": [0.69, 0.70, 0.69]},
    "bilstm": {"ctr": [0.61, 0.64, 0.63], "cvr": [0.72, 0.71, 0.74]},
}
BEST = {"ctr.auc": 0.6067, "ctr.auc best": 0.6068, "ctcvr.auc": 0.6635}


def dcrnn_row(name):
    found = AUCS[name]
    values = {"ctr.auc": found["ctr"], "cvr.auc": found["cvr"]}
    values["ctcvr.auc"] = [(a + b) / 2 for a, b in zip(*found.values(), strict=True)]
    return RowResult(
        row=name,
        module=f"dcrnn.{name}",
        paper={"mmoe": {"ctr.auc": 0.5962}, "bilstm": BEST}.get(name, {}),
        seeds=SEEDS,
        metrics={n: [Metric(v, 100, 40) for v in vs] for n, vs in values.items()},
        params=99,
        density={},
        seconds=1.0,
    )


def dcrnn_table(layout=DCRNN):
    return build_table(
        "dcrnn.table4", "ali_ccp", [dcrnn_row(name) for name in AUCS], layout=layout
    )


def header(text):
    line = next(x for x in text.splitlines() if x.startswith("| Row"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_layout_gives_columns_and_baselines():
    built = dcrnn_table()
    for metric in DCRNN.main:
        tests = find(built, "bilstm")["tests"][metric]
        assert tests.keys() == {"vs_mmoe", "vs_matched"}
        ours, base = (dcrnn_row(n).metrics[metric] for n in ("bilstm", "mmoe_matched"))
        values = [[m.value for m in part] for part in (ours, base)]
        expected = scipy.stats.ttest_rel(*values).pvalue
        assert tests["vs_matched"]["p"] == pytest.approx(expected)
    assert find(built, "mmoe")["tests"]["ctr.auc"].keys() == {"vs_matched"}
    text = rendering.to_markdown(built)
    columns = ["Row"]
    for title in ("CTR AUC", "CVR AUC", "CTCVR AUC"):
        columns += [title, "Δ vs mmoe", "p (Holm)", "paper"]
    assert header(text) == [*columns, "density ctr / cvr", "params", "s"]
    assert cells(text, "bilstm")[4] == "0.60670 (+0.01050)"
    for title in ("CTR AUC", "CTCVR AUC"):
        assert f"## {title} against the baselines" in text
    assert "against mmoe;" in text and "4584 : 1" in text


def test_best_seeds_stand_beside_the_papers_best_where_asked_for():
    text = rendering.to_markdown(dcrnn_table(DCRNN._replace(has_best=True)))
    assert header(text).count("best seed") == 3
    found = dict(zip(header(text)[5:7], cells(text, "bilstm")[5:7], strict=True))
    assert found == {"best seed": "0.64000", "paper's best": "0.60680"}
    assert cells(text, "mmoe")[5:7] == ["0.62000", rendering.NONE]
    assert "best seed" not in rendering.to_markdown(dcrnn_table())
    lowest = LT4REC._replace(has_best=True)
    text = rendering.to_markdown(
        build_table("lt4rec.table2", "video_feed", rows(), layout=lowest)
    )
    assert cells(text, "s-weight")[5] == "0.13000"  # of an error the least is best


def test_lt4recs_layout_is_the_default_and_its_columns_those_of_its_paper():
    built = table()
    assert built["layout"] == LT4REC.as_json()
    columns = ["Row"]
    for title in ("CVR MSE", "CTR AUC"):
        columns += [title, "Δ vs base", "p (Holm)", "paper"]
    text = rendering.to_markdown(built)
    assert header(text) == [*columns, "density ctr / cvr", "params", "s"]
    assert find(built, "s-weight")["tests"]["cvr.mse"].keys() == {"vs_base", "vs_hard"}


def test_a_table_is_drawn_again_from_its_json_alone(tmp_path):
    layout = DCRNN._replace(has_best=True)
    rendering.write_table(dcrnn_table(layout), tmp_path)
    read = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert rendering.to_markdown(read) == rendering.to_markdown(dcrnn_table(layout))
    table_figures.table_figure(read, tmp_path / "table.png")
    assert area(pixels(tmp_path / "table.png"), figures.BLUE)


# What is scored in which space

SHOP = Schema(
    name="shop",
    fields=(Field("user", "users"), Field("item", "users")),
    vocabularies=(Vocabulary("users", 3),),
    tasks=(
        Task("visit"),
        Task("buy", space="visit"),
        Task("keep", space="buy"),
        Task("like"),
    ),
    ctr="visit",
    cvr="buy",
    user="user",
    item="item",
    extras=("truth.visit", "truth.buy", "truth.keep"),
)


def shop(n=400, extras=("visit", "buy", "keep")):
    """Every task's label is drawn inside its space from a chance of its own."""
    rng = np.random.default_rng(0)
    chance = {name: rng.uniform(0.3, 0.9, n) for name in ("visit", "buy", "keep")}
    labels, alive = {"like": (rng.random(n) < 0.5).astype(np.float32)}, np.ones(n, bool)
    for name, p in chance.items():
        alive = alive & (rng.random(n) < p)
        labels[name] = alive.astype(np.float32)
    ids = rng.integers(1, 3, (n, 2)).astype(np.int32)
    groups = {"user": ids[:, 0], "item": ids[:, 1]}
    truth = {f"truth.{name}": chance[name].astype(np.float32) for name in extras}
    rows = Rows(ids, np.zeros((n, 0), np.float32), labels, truth, groups)
    return Dataset(SHOP, {"test": rows}, {}, (), "shop"), chance


def test_names_of_metrics_are_those_of_the_roles():
    names = ("visit", "buy", "joint.buy", "keep", "joint.keep", "like")
    found = [scores.prefix(SHOP, name) for name in names]
    assert found == ["ctr", "cvr", "ctcvr", "keep", "ctkeep", "like"]
    assert scores.task_of(SHOP, "joint.keep").space == "impression"
    assert scores.task_of(SHOP, "keep") == SHOP.task("keep")


def test_truth_of_a_joint_task_is_the_product_down_its_funnel():
    data, chance = shop()
    found = scores.truth(data, "test")
    joint = chance["visit"] * chance["buy"]
    np.testing.assert_allclose(found["joint.buy"], joint, rtol=1e-6)
    np.testing.assert_allclose(found["joint.keep"], joint * chance["keep"], rtol=1e-6)
    assert found.keys() == {*chance, "joint.buy", "joint.keep"}
    part, _ = shop(extras=("visit", "keep"))
    assert scores.truth(part, "test").keys() == {"visit", "keep"}
    assert scores.truth(shop(extras=())[0], "test") is None


def test_both_spaces_of_a_nested_task_are_scored_on_their_rows():
    data, _ = shop()
    labels = data.splits["test"].labels
    found = scores.score(data, "test", scores.truth(data, "test"))
    visited = labels["visit"] > 0
    assert found["cvr.auc"].n == visited.sum() and found["cvr.auc"].space == "visit"
    assert found["ctcvr.auc"].n == 400 and found["ctcvr.auc"].space == "impression"
    assert found["cvr.auc"].positives == found["ctcvr.auc"].positives
    joint = scores.truth(data, "test")["joint.buy"]
    assert found["ctcvr.auc"].value == metrics.auc(labels["buy"], joint).value
    # The truth is calibrated in both spaces, within what 400 rows can tell.
    for name in ("ctr", "cvr", "ctcvr", "ctkeep"):
        assert abs(found[f"{name}.calibration"].value - 1) < 0.25
