import base64
import copy
import json
from functools import reduce

import numpy as np
import pytest
from report_page import DRAWN, numbers_on, numbers_without_a_source, read, sources

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import HELD_OUT
from monai_cxrpair.evaluation.protocol import linear_protocol
from monai_cxrpair.evaluation.report.curves import curve_bands
from monai_cxrpair.evaluation.report.page import write_report
from monai_cxrpair.evaluation.report.pictures import draw_forest, forest_data
from monai_cxrpair.evaluation.report.results import plain, results_dict, text_table, write_results
from monai_cxrpair.evaluation.report.words import learned_from, limitations, verdict

HOSTILE = "<script>alert('x')</script> & $\\alpha$"


@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(0)
    who = rng.integers(0, 150, 400)
    labels = (rng.random(400) < 0.35).astype(float)
    tables = {}
    for name, strength in (("random weights", 0.0), (HOSTILE, 0.9), ("same study", 1.0)):
        tables[name] = rng.normal(size=(400, 12)).astype(np.float32)
        tables[name][:, :3] += strength * labels[:, None].astype(np.float32)
    return linear_protocol(
        tables,
        labels,
        who,
        np.arange(400),
        np.flatnonzero(who % 3 > 0),
        np.flatnonzero(who % 3 == 0),
        fraction=0.3,
        draws=3,
        seed=0,
        replicates=200,
        subgroups={"pneumonia": rng.random(400) < 0.5, "lateral": np.zeros(400, dtype=bool)},
    )


@pytest.fixture(scope="module")
def results(measured):
    return results_dict(
        measured,
        finding="pleural_effusion",
        cohort={"radiographs": 400, "laterality": {"frontal": 400, "lateral": 0}},
        protocol={"subset": "pneumonia == 1", "image_size": 64},
        cards={"same study": {"pairing": {"study": "same", "include_self": False}, "self_pair_rate": 0.6881}},
        not_run={"ImageNet": "no weights file given"},
        classifier={
            "encoder": "same study",
            "test_auc": 0.87654,
            "operating_point": {"threshold": 0.2345, "sensitivity": 0.81, "specificity": 0.765, "rule": "youden"},
        },
        versions={"monai": "1.6.1", "cohort_sha256": "ab" * 32},
    )


@pytest.fixture(scope="module")
def written(measured, results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    bands = {
        name: curve_bands(measured.test_labels, scores, measured.test_patients, replicates=50)
        for name, scores in measured.scores.items()
    }
    roc, pr = ({name: band[kind] for name, band in bands.items()} for kind in ("roc", "pr"))
    report = write_report(results, out_dir=folder, roc=roc, pr=pr)
    return folder, report, report.read_text(encoding="utf-8")


def test_the_report_shows_every_auc_of_the_results(written, results):
    _, text = read(written[2])
    for entry in results["encoders"].values():
        linear = entry["linear"]
        for figures in (linear, linear["subgroups"]["pneumonia"]):
            low, high = figures["ci95"]
            assert f"{figures['auc_mean']:.3f} {figures['auc_sd']:.3f} {low:.3f} to {high:.3f}" in text
        for auc in linear["auc_draws"]:
            assert f"{auc:.3f}" in text
    for pair in results["comparisons"]:
        assert f"{pair['difference']:+.3f} {pair['ci95'][0]:+.3f} to {pair['ci95'][1]:+.3f}" in text
    assert "Test AUC 0.877" in text
    assert "81.0 %" in text
    assert "no labelled test radiographs in this subgroup" in text
    assert "not run: no weights file given" in text
    assert "0.6881" in text
    assert "pneumonia == 1" in text
    assert "research use only" in text.lower()


def test_every_number_in_the_report_stands_in_the_results(written):
    folder, _, page = written
    results = json.loads((folder / "results.json").read_text())
    assert numbers_without_a_source(page, results) == set()


def leaves(value, path=()):
    """Path of every number that is not only drawn."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in DRAWN:
                yield from leaves(item, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def put(results, path, number):
    *way, last = path
    reduce(lambda inner, key: inner[key], way, results)[last] = number


# What the page writes of an encoder, a pair and the classifier, each with its CI: the number behind the last key.
WRITTEN = {
    *("auc_mean", "auc_sd", "auc_draws", "mean", "ece", "slope", "value", "difference", "p", "p_holm", "p_delong"),
    *("test_auc", "threshold", "sensitivity", "specificity", "tp", "fn", "fp", "tn", "ci95"),
}


def test_each_single_number_that_is_changed_is_missed_by_the_check(written, tmp_path):
    """With figures that are all different no other one can stand in for the one that was changed."""
    results = json.loads((written[0] / "results.json").read_text())
    figures = (n / 1000 for n in range(101, 1000) if n % 10)
    counts = iter(range(2001, 9000))
    paths = [path for path in leaves(results) if path[0] in ("encoders", "comparisons", "classifier")]
    for path in paths:
        number = reduce(lambda inner, key: inner[key], path, results)
        put(results, path, next(counts if isinstance(number, int) else figures))
    report = write_report(results, out_dir=tmp_path, roc=results["roc"], pr=results["pr"])
    shown = numbers_on(report.read_text(encoding="utf-8"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert shown - sources(results) == set()
    seen, passed = set(), []
    for path in paths:
        key = next(part for part in reversed(path) if isinstance(part, str))
        if key not in WRITTEN or {"subgroups", "auc_draws"} <= {*path}:
            continue
        changed = copy.deepcopy(results)
        put(changed, path, 0)
        passed += [] if shown - sources(changed) else [path]
        seen.add(key)
    assert passed == []
    assert seen == WRITTEN


@pytest.mark.parametrize("drawn", [("roc", "bins", "decision"), ("pr", "line", "curves")])
def test_a_number_that_is_only_drawn_is_no_source_of_one_that_is_written(drawn):
    results = {"encoders": {}, "checklist": {"items": [], "counts": {}}, "a": {key: [0.4711] for key in drawn}}
    assert "0.471" not in sources(results)
    assert "0.471" in sources({**results, "b": [0.4711]})
    assert not {"47", "37"} & sources({**results, "b": [0.4711, 0.3666], "c": 4})


def test_every_section_has_an_anchor_in_the_contents_and_no_link_is_dead(written):
    parser, text = read(written[2])
    links = [link.removeprefix("#") for link in parser.references if link.startswith("#")]
    assert len(parser.ids) == len(set(parser.ids)) == written[2].count("<h2")
    assert set(links) == set(parser.ids)
    assert "the order of the" not in text  # nobody asked for temperature scaling


def test_the_report_loads_nothing_and_runs_nothing(written):
    parser, _ = read(written[2])
    assert "http://" not in written[2]
    assert "https://" not in written[2]
    assert all(reference.startswith(("data:", "#")) for reference in parser.references)
    assert "script" not in parser.tags
    assert "default-src 'none'" in written[2]
    picture = next(ref for ref in parser.references if ref.startswith("data:image/svg+xml;base64,"))
    assert base64.b64decode(picture.split(",")[1]) == (written[0] / "roc.svg").read_bytes()


def test_names_cannot_smuggle_markup_into_the_report(written):
    _, text = read(written[2])
    assert HOSTILE in text
    assert "<script" not in written[2]


def test_all_files_are_written_and_no_temporary_one_is_left(written):
    assert {file.name for file in written[0].iterdir()} == {
        *("results.json", "report.html", "roc.png", "roc.svg", "pr.png", "pr.svg", "forest.png", "forest.svg"),
        *("reliability.png", "reliability.svg", "decision.png", "decision.svg", "checklist.csv"),
    }
    assert (written[0] / "roc.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_results_give_the_same_bytes(written, results, tmp_path):
    found = json.loads((written[0] / "results.json").read_text())
    write_report(results, out_dir=tmp_path, roc=found["roc"], pr=found["pr"])
    for file in written[0].iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_report_of_one_encoder_without_the_optional_parts_is_whole(tmp_path, results):
    small = {
        "finding": "edema",
        "protocol": {"label_fraction": 0.01, "draws": 1},
        "cohort": {"train": {"radiographs": 5}, "test": {"radiographs": 3}},
        "encoders": {"only": {"linear": {"auc_mean": 0.7, "auc_sd": None, "ci95": [0.6, 0.8], "auc_draws": [0.7]}}},
    }
    _, text = read(write_report(small, out_dir=tmp_path / "new").read_text(encoding="utf-8"))
    assert "only reaches an AUC of 0.700 for edema" in text
    assert "Nothing was there to compare it with" in text
    assert "from 1 % of the labelled studies" in text


def compared(difference, low, high):
    """Two encoders and their comparison, stored as a minus b."""
    linear = {"auc_sd": 0.01, "ci95": [0.5, 0.9], "auc_draws": []}
    return {
        "finding": "pleural_effusion",
        "reference": "random weights",
        "encoders": {
            "random weights": {"linear": linear | {"auc_mean": 0.7}},
            "same study": {"linear": linear | {"auc_mean": 0.7 + difference}},
        },
        "comparisons": [{"a": "same study", "b": "random weights", "difference": difference, "ci95": [low, high]}],
    }


def test_the_verdict_says_which_differences_are_established_and_which_are_not():
    assert verdict(compared(0.053, 0.02, 0.08))[1] == (
        "same study beats random weights by 0.053 AUC (95 % CI 0.020 to 0.080)."
    )
    assert verdict(compared(-0.053, -0.08, -0.02))[1] == (
        "same study is worse than random weights by 0.053 AUC (95 % CI 0.020 to 0.080)."
    )
    assert verdict(compared(0.01, -0.02, 0.04))[1] == (
        "A difference between same study and random weights is NOT established: +0.010 AUC, "
        "and the 95 % CI (-0.020 to +0.040) includes 0."
    )


def test_what_holms_correction_takes_back_is_not_called_established():
    results = compared(0.053, 0.001, 0.08)
    results["comparisons"][0] |= {"p": 0.04, "p_holm": 0.12}
    assert verdict(results)[1] == (
        "A difference between same study and random weights is NOT established among so many comparisons: +0.053 AUC "
        "(95 % CI +0.001 to +0.080), but p is 0.120 after Holm's correction."
    )
    assert "not established: p corrected for the table (Holm) = 0.120" in text_table(results)
    results["comparisons"][0]["p_holm"] = 0.04
    assert "beats" in verdict(results)[1]
    assert "not established" not in text_table(results)


def test_the_report_shows_precision_calibration_operating_points_and_both_tests(written, results):
    _, text = read(written[2])
    for entry in results["encoders"].values():
        linear = entry["linear"]
        for figures in (linear["pr_auc"], linear["calibration"]["brier"]):
            low, high = figures["ci95"]
            assert f"{figures['mean']:.3f} ({low:.3f} to {high:.3f})" in text
        for point in linear["operating_points"].values():
            for share in ("sensitivity", "specificity", "ppv", "npv"):
                if point[share]["value"] is None:  # a draw called everybody positive
                    continue
                low, high = (100 * end for end in point[share]["ci95"])
                assert f"{100 * point[share]['value']:.1f} ({low:.1f} to {high:.1f})" in text
    for pair in results["comparisons"]:
        for key in ("p", "p_holm", "p_delong"):
            assert (f"{pair[key]:.3f}" if pair[key] >= 0.001 else "< 0.001") in text
    assert "lateral not measured: no labelled test radiograph" in text


def test_the_forest_holds_everybody_and_the_subgroups_that_were_measured(results):
    figures = {name: entry["linear"] for name, entry in results["encoders"].items()}
    rows = forest_data(figures)
    assert [row["group"] for row in rows] == ["everybody", "pneumonia"]
    for name, linear in figures.items():
        assert rows[0]["encoders"][name] == {"auc": linear["auc_mean"], "ci95": linear["ci95"]}
        inside = linear["subgroups"]["pneumonia"]
        assert rows[1]["encoders"][name] == {"auc": inside["auc_mean"], "ci95": inside["ci95"]}
        assert (rows[1]["tested"], rows[1]["present"]) == (inside["radiographs"], inside["present"])


def test_without_a_measured_subgroup_there_is_no_forest(tmp_path):
    linear = {"auc_mean": 0.7, "ci95": [0.6, 0.8], "subgroups": {"few": {"not_measured": "too few", "radiographs": 3}}}
    assert draw_forest({"only": linear}, out_dir=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_is_the_same_whichever_way_round_the_pair_is_stored():
    there, back = compared(0.053, 0.02, 0.08), compared(0.053, 0.02, 0.08)
    back["comparisons"] = [{"a": "random weights", "b": "same study", "difference": -0.053, "ci95": [-0.08, -0.02]}]
    assert verdict(there) == verdict(back)


def test_the_table_for_the_terminal_ends_with_the_report(results):
    lines = text_table(results, report="out/report.html").splitlines()
    linear = results["encoders"]["same study"]["linear"]
    row = next(line for line in lines if line.startswith("same study "))
    assert f"{linear['auc_mean']:.3f}  {linear['auc_sd']:.3f}  {linear['ci95'][0]:.3f} to" in row
    assert "not run: no weights file given" in "\n".join(lines)
    assert sum("(paired)" in line or " - " in line for line in lines) == 4
    assert lines[-1] == "report: out/report.html"


def test_results_hold_no_nan_and_no_numpy(tmp_path):
    path = tmp_path / "deep" / "results.json"
    write_results({"a": np.float32(0.5), "b": [float("nan"), np.inf, np.arange(2)], "c": (None, True, path)}, path)
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [None, None, [0, 1]], "c": [None, True, str(path)]}
    assert plain({1: {2}}) == {"1": [2]}


def test_a_failed_write_leaves_the_old_results_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_results({"a": 1}, path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CxrPairError, match=r"cannot write .*results\.json: disk full"):
        write_results({"a": 2}, path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_where_studies_are_tested_the_page_says_studies(results, written, tmp_path):
    studies = {**results, "protocol": results["protocol"] | {"level": "study_max"}}
    for entry in results["encoders"].values():
        for group in entry["linear"]["subgroups"].values():
            group["studies"] = group["radiographs"]
    _, text = read(write_report(studies, out_dir=tmp_path).read_text(encoding="utf-8"))
    assert "Tested on studies by the highest score of their radiographs" in text
    assert "the chance that a study with the finding" in text
    assert "labelled test studies" in text
    assert "net benefit per study" in (tmp_path / "decision.svg").read_text()
    _, plain_text = read(written[2])
    assert "Tested on radiographs." in plain_text
    assert "the chance that a radiograph with the finding" in plain_text
    assert "net benefit per radiograph" in (written[0] / "decision.svg").read_text()


def test_a_limitation_is_named_only_where_it_holds():
    linear = {"auc_mean": 0.7, "ci95": [0.6, 0.8]}
    alone = limitations({"encoders": {"only": {"linear": linear}}})
    assert not any(word in sentence for sentence in alone for word in ("pre-training", "highest", "Subgroup"))
    trained = {"linear": linear | {"subgroups": {"PA": {}}}, "card": {"format": "cxrpair-encoder/1"}}
    both = " ".join(limitations({"encoders": {"random weights": {"linear": linear}, "mine": trained}}))
    assert all(word in both for word in ("one pre-training run", "highest of several", "Subgroup figures"))


def small(*, known=True, draws=3, cards=None):
    linear = {"auc_mean": 0.7, "auc_sd": None, "ci95": [0.6, 0.8], "auc_draws": [0.7]}
    side = {"radiographs": 50, "patients": 50, "studies": 50, "labelled": 50, "present": 20, "absent": 30}
    sides = {name: side | {"uncertain": 0, "missing": 0} for name in ("train", "test")}
    return {
        "finding": "edema",
        "protocol": {"label_fraction": 0.01, "draws": draws, "replicates": 200, "labelled_studies": 50},
        "cohort": {**({} if known else {"patients_known": False}), **sides},
        "encoders": {name: {"linear": linear, "card": card} for name, card in (cards or {"only": {}}).items()},
    }


def text_of(results, folder):
    return read(write_report(results, out_dir=folder).read_text(encoding="utf-8"))[1]


def test_where_patients_are_not_known_the_page_claims_nothing_about_them(tmp_path):
    known, unknown = (text_of(small(known=told), tmp_path / str(told)) for told in (True, False))
    for claim in ("No patient is on both sides", "test patients", "by patient", "whole patients", "50 patients"):
        assert claim in known, claim
        assert claim not in unknown, claim
    assert "one person may be on both sides" in unknown
    assert "are too narrow" in unknown
    assert "one person may be on both sides" not in known


def test_one_label_draw_claims_no_interval_over_draws(tmp_path):
    one, three = (text_of(small(draws=draws), tmp_path / str(draws)) for draws in (1, 3))
    assert "label draws together" in three
    assert "label draws together" not in one
    assert "mean is over 1 label draw" not in one
    assert "bootstrap over test patients alone" in one
    sentence = "One label draw: how much depends on which labels were drawn is not in these intervals."
    assert sentence in one
    assert sentence not in three


def test_an_encoder_that_may_have_seen_test_patients_is_named_among_the_limitations():
    cards = {
        "far": {"format": "cxrpair-encoder/1", "test_patients": "pre-trained on another cohort: who knows"},
        "near": {"format": "cxrpair-encoder/1", "test_patients": HELD_OUT},
        "random weights": {},
    }
    said = [sentence for sentence in limitations(small(cards=cards)) if "seen test patients" in sentence]
    assert len(said) == 1
    assert "that far has seen" in said[0]


def test_an_encoder_that_saw_all_labels_is_named_among_the_limitations():
    cards = {"oracle": {"pairing": {"oracle_same_finding": "lung_lesion"}}, "plain": {"pairing": None}, "random": {}}
    said = [sentence for sentence in limitations(small(cards=cards)) if "paired by" in sentence]
    assert [sentence.split(" was ")[0] for sentence in said] == ["oracle"]
    assert "labels of lung lesion" in said[0]
    assert "more labels than the label fraction" in said[0]


def test_the_plain_table_does_not_say_that_no_label_is_missing(tmp_path):
    assert "missing 0" not in text_of(small(), tmp_path)


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (
            {"label_fraction": 0.015, "draws": 1},
            "1.5 % of the labelled studies of the training side, in 1 draw of whole",
        ),
        ({"label_fraction": 0.1, "draws": 2, "draw_by": "radiograph"}, "10 % of the labelled radiographs of"),
        (
            {"label_fraction": None, "studies_per_draw": 50, "draws": 3},
            "50 labelled studies, in 3 draws of whole patients",
        ),
        (
            {"label_fraction": None, "draws_from": "files", "radiographs_per_draw": [7, 9], "draws": 5},
            "7 to 9 labelled radiographs, in 5 draws that the user gave",
        ),
    ],
)
def test_what_the_probe_learned_from_is_told_as_it_was_asked_for(protocol, text):
    assert text in learned_from(protocol)
