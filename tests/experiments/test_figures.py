"""The table, from results.json files that the test made, against figures worked out another way."""

import csv
import json

import numpy as np
import pytest
from scipy import stats

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.collect import collect
from monai_cxrpair.experiments.experiment import Size, read_experiment
from monai_cxrpair.experiments.figures import mean_with_error, paper_figures, table_figures
from monai_cxrpair.experiments.plan import evaluation_folder
from monai_cxrpair.experiments.write import markdown, write_table

SIZE = Size("label_fraction", 0.1)
RANDOM = [0.60, 0.61, 0.62, 0.58, 0.59]
MOCO = np.array([[0.70, 0.72, 0.74, 0.71, 0.73], [0.71, 0.73, 0.75, 0.70, 0.72], [0.69, 0.72, 0.73, 0.72, 0.71]])
BETTER = MOCO + 0.08 + np.array([[0.01], [-0.01], [0.0]]) + np.array([0.004, -0.004, 0, 0.002, -0.002])
SAME_AS_MOCO = MOCO + np.array([[0.02], [-0.03], [0.01]])


@pytest.fixture
def made(experiment, place, evaluated):
    """Write the evaluations of three seeds and work out the table."""

    def make(arm=BETTER, *, seeds=(0, 1, 2), own=experiment, missing=(), **told):
        for seed in seeds:
            aucs = {"random weights": RANDOM, "MoCo v2": MOCO[seed], "same study": arm[seed]}
            for name, of_seed in missing:
                if of_seed == seed:
                    del aucs[name]
            evaluated(evaluation_folder(own, place / "out", "pleural_effusion", SIZE, seed), aucs, **told)
        return table_figures(own, collect(own, place / "out", seeds))

    return make


def row_of(block, name):
    return next(row for row in block["rows"] if row["row"] == name)


def pair_of(block, name):
    return next(pair for pair in block["comparisons"] if pair["a"] == name)


def test_a_row_is_the_mean_over_seeds_and_draws_with_both_spreads(made):
    (block,) = made()
    row = row_of(block, "MoCo v2")
    assert row["seeds"] == [0, 1, 2]
    assert row["auc_mean"] == pytest.approx(sum(map(sum, MOCO.tolist())) / 15)
    assert row["sd"] == pytest.approx(MOCO.std(ddof=1))
    assert row["sd_seeds"] == pytest.approx(MOCO.mean(axis=1).std(ddof=1))
    assert row["ci95"][0] < row["auc_mean"] < row["ci95"][1]
    assert row["variance"]["test"] == pytest.approx(0.02**2)
    assert row["paper"] == {"mean": 0.8, "sd": 0.01}


def test_the_interval_of_a_difference_adds_the_squares_of_its_parts_each_with_its_own_t(made):
    """The draws' own variance from the mean squares of the table, written out by cells."""
    (block,) = made()
    pair = pair_of(block, "same study")
    d = BETTER - MOCO
    s, n, grand = 3, 5, d.mean()
    ms_draw = s * sum((d[:, j].mean() - grand) ** 2 for j in range(n)) / (n - 1)
    ms_rest = sum((d[i, j] - d[i].mean() - d[:, j].mean() + grand) ** 2 for i in range(s) for j in range(n))
    of_draw = (ms_draw - ms_rest / ((s - 1) * (n - 1))) / (s * n)
    of_seed = sum((d[i].mean() - grand) ** 2 for i in range(s)) / (s - 1) / s

    def reaches(level):
        squares = [stats.t(2).interval(level)[1] ** 2 * of_seed, stats.t(4).interval(level)[1] ** 2 * of_draw,
                   (stats.norm.interval(level)[1] * 0.01) ** 2]  # fmt: skip
        return sum(squares) ** 0.5

    assert of_draw > 0
    assert pair["difference"] == pytest.approx(0.08)
    assert pair["ci95"] == pytest.approx([0.08 - reaches(0.95), 0.08 + reaches(0.95)])
    assert reaches(1 - pair["p"]) == pytest.approx(0.08)  # the interval of that level touches 0
    assert pair["se"] == pytest.approx((of_seed + of_draw + 0.01**2) ** 0.5)
    assert (pair["a"], pair["b"], pair["seeds"], pair["draws"]) == ("same study", "MoCo v2", 3, 5)
    assert pair["paper"] == pytest.approx(0.05)


def test_a_large_steady_difference_is_established_and_one_within_the_seeds_is_not(made):
    assert pair_of(made()[0], "same study")["not_established"] is None
    pair = pair_of(made(SAME_AS_MOCO)[0], "same study")
    assert pair["not_established"] == "the CI includes 0"
    assert pair["variance"]["shares"]["seed"] > 0.5


def test_one_seed_establishes_nothing_however_large_the_difference(made):
    pair = pair_of(made(MOCO + 0.2, seeds=(0,))[0], "same study")
    assert pair["ci95"][0] > 0
    assert pair["p_holm"] < 0.05
    assert pair["not_established"] == "one pre-training seed: another may differ"


def test_one_draw_and_one_seed_leave_the_test_patients_alone(place, experiment, evaluated):
    folder = evaluation_folder(experiment, place / "out", "pleural_effusion", SIZE, 0)
    evaluated(folder, {"MoCo v2": [0.7], "same study": [0.72]}, se_test=0.01)
    (block,) = table_figures(experiment, collect(experiment, place / "out", [0]))
    pair = pair_of(block, "same study")
    assert pair["ci95"] == pytest.approx([0.02 - 1.959964 * 0.01, 0.02 + 1.959964 * 0.01], abs=1e-7)
    assert pair["p"] == pytest.approx(2 * stats.norm.sf(2))
    assert row_of(block, "MoCo v2")["sd"] is None


def test_a_baseline_has_no_seeds_and_is_compared_with_all_of_them(made):
    (block,) = made()
    row = row_of(block, "random")
    assert row["seeds"] == []
    assert row["auc_draws"] == [RANDOM]
    pair = pair_of(block, "random")
    assert pair["difference"] == pytest.approx(np.mean(RANDOM) - MOCO.mean())
    assert pair["seeds"] == 3
    assert pair["not_established"] is None


def test_holm_is_over_all_comparisons_of_the_table(made):
    (block,) = made(SAME_AS_MOCO)
    p = {pair["a"]: pair["p"] for pair in block["comparisons"]}
    corrected = {pair["a"]: pair["p_holm"] for pair in block["comparisons"]}
    assert len(p) == 2
    low, high = sorted(p, key=p.get)
    assert corrected[low] == pytest.approx(min(1, 2 * p[low]))
    assert corrected[high] == pytest.approx(max(corrected[low], p[high]))


def test_a_row_that_failed_for_one_seed_is_compared_on_the_others(made):
    (block,) = made(missing=[("same study", 1)])
    assert row_of(block, "same study")["seeds"] == [0, 2]
    pair = pair_of(block, "same study")
    assert pair["seeds"] == 2
    assert pair["difference"] == pytest.approx((BETTER - MOCO)[[0, 2]].mean())


def test_a_row_that_was_never_evaluated_says_so(change, made):
    rows = [{"name": "ImageNet", "baseline": "imagenet"}, {"name": "MoCo v2", "overlays": ["pairing/none.yaml"]},
            {"name": "other", "overlays": ["pairing/same.yaml"]}]  # fmt: skip
    (block,) = made(own=read_experiment(change(rows=rows)))
    assert row_of(block, "ImageNet")["not_measured"] == "no file was given"
    assert row_of(block, "other")["not_measured"] == "not evaluated"
    assert block["comparisons"] == []


def test_several_references_compare_every_pair_once(change, made):
    own = read_experiment(change(compare_with=["MoCo v2", "same study"]))
    (block,) = made(own=own)
    pairs = [(pair["a"], pair["b"]) for pair in block["comparisons"]]
    assert pairs == [("random", "MoCo v2"), ("same study", "MoCo v2"), ("random", "same study")]


def test_a_test_side_without_variance_establishes_nothing(made):
    pair = pair_of(made(se_test=None)[0], "same study")
    assert (pair["p"], pair["ci95"]) == (None, None)
    assert pair["not_established"] == "too few test patients"


def test_evaluations_with_other_draws_cannot_stand_in_one_table(made, experiment, place, evaluated):
    made()
    folder = evaluation_folder(experiment, place / "out", "pleural_effusion", SIZE, 2)
    evaluated(folder, {"MoCo v2": MOCO[0]}, split_hash="def")
    with pytest.raises(CxrPairError, match=r"seed2/results.json: split_hash is def, in .*seed0.* it is abc"):
        collect(experiment, place / "out", [0, 1, 2])


def test_no_difference_at_all_has_p_1_and_one_without_any_spread_a_tiny_one():
    assert mean_with_error(np.zeros((3, 5)), test_variance=0.01)["p"] == 1
    assert mean_with_error(np.full((3, 5), 0.1), test_variance=0.0)["p"] < 1e-9


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_results_file_is_named(experiment, place, text):
    folder = evaluation_folder(experiment, place / "out", "pleural_effusion", SIZE, 0)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(text)
    with pytest.raises(CxrPairError, match=r"results\.json"):
        collect(experiment, place / "out", [0])


@pytest.mark.parametrize(("seed_sd", "test_sd"), [(0.0, 0.01), (0.015, 0.01), (0.03, 0.0)])
def test_the_intervals_cover_what_they_say_or_a_little_more(seed_sd, test_sd):
    """Three seeds and five draws of differences whose mean is 0.02, whatever makes them vary."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        table = (
            0.02
            + rng.normal(0, test_sd)
            + rng.normal(0, seed_sd, (3, 1))
            + rng.normal(0, 0.01, (1, 5))
            + rng.normal(0, 0.01, (3, 5))
        )
        low, high = mean_with_error(table, test_variance=test_sd**2)["ci95"]
        covered += low <= 0.02 <= high
    assert 0.94 < covered / 600 <= 0.99


def test_the_papers_figures_follow_protocol_and_finding(change):
    rows = [{"name": "a", "overlays": ["pairing/none.yaml"],
             "paper": {"linear": {"edema": [0.8]}, "end_to_end": [0.9, 0.01]}}]  # fmt: skip
    (row,) = read_experiment(change(rows=rows)).rows
    assert paper_figures(row, protocol="linear", finding="edema") == {"mean": 0.8, "sd": None}
    assert paper_figures(row, protocol="linear", finding="effusion") is None
    assert paper_figures(row, protocol="fine_tune", finding="effusion") == {"mean": 0.9, "sd": 0.01}
    assert paper_figures(row, protocol="knn", finding="edema") is None


def test_the_three_files_say_the_same(made, experiment, place):
    blocks = made()
    paths = write_table(experiment, blocks, place / "out" / "table1")
    text = paths["md"].read_text()
    assert "| MoCo v2 | 3 x 5 | 0.719 |" in text
    assert "paper (other dataset)" in text
    assert "0.800 ± 0.010" in text
    assert "| same study − MoCo v2 | +0.080 |" in text
    assert "| +0.050 |" in text  # the paper's difference
    stored = json.loads(paths["json"].read_text())
    assert stored["blocks"][0]["comparisons"][1]["difference"] == pytest.approx(0.08)
    with paths["csv"].open() as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["random", "MoCo v2", "same study"]
    assert float(lines[2]["difference"]) == pytest.approx(0.08)
    assert (lines[1]["compared_with"], lines[2]["compared_with"]) == ("", "MoCo v2")
    assert lines[2]["not_established"] == "established"


def test_markdown_says_what_is_not_established_and_why(made, experiment):
    text = markdown(experiment, made(SAME_AS_MOCO))
    assert "not established: the CI includes 0" in text
    assert "Nothing has been evaluated yet" in markdown(experiment, [])
