import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, recall_score, roc_auc_score

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.head import operating_point
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.protocol import linear_protocol
from monai_cxrpair.evaluation.statistics.bootstrap import draw_weights, paired_p, patient_weights
from monai_cxrpair.evaluation.statistics.compare import compare_delong, holm


def cohort(seed=0, *, rows=400, patients=150, strengths=(0.0, 0.8, 1.2), features=20):
    """Encoders whose first features carry the label, each to another degree."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, patients, rows)
    study = rng.integers(0, 3, rows)
    labels = (rng.random(rows) < 0.35).astype(float)
    tables = {}
    for number, strength in enumerate(strengths):
        table = rng.normal(size=(rows, features))
        table[:, :3] += strength * labels[:, None]
        tables[f"encoder {number}"] = table.astype(np.float32)
    labels[rng.random(rows) < 0.05] = -1
    labels[rng.random(rows) < 0.05] = np.nan
    test = who % 3 == 0
    return tables, labels, who, study, np.flatnonzero(~test), np.flatnonzero(test)


def test_the_figures_equal_scikit_learn_and_a_plain_loop_over_replicates():
    tables, labels, who, study, train, test = cohort()
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.3, draws=3, seed=7, replicates=25)

    scored = test[np.isin(labels[test], (0, 1))]
    np.testing.assert_array_equal(result.test_rows, scored)
    weights = patient_weights(who[scored], replicates=25, seed=7)
    repeats = draw_weights(3, replicates=25, seed=7)
    assert (repeats.sum(axis=1) == 3).all()
    samples = {}
    for name, table in tables.items():
        scores = []
        for rows in result.draws:
            probe = LinearProbe(seed=7).fit(table[rows], labels[rows], who[rows])
            scores.append(probe.predict_proba(table[scored]))
        np.testing.assert_array_equal(result.scores[name], scores)
        aucs = [roc_auc_score(labels[scored], row) for row in scores]
        figures = result.encoders[name]
        assert figures["auc_draws"] == pytest.approx(aucs, abs=1e-12)
        assert figures["auc_mean"] == pytest.approx(np.mean(aucs), abs=1e-12)
        assert figures["auc_sd"] == pytest.approx(np.std(aucs, ddof=1), abs=1e-12)
        samples[name] = [
            np.average([roc_auc_score(labels[scored], row, sample_weight=weight) for row in scores], weights=repeat)
            for weight, repeat in zip(weights, repeats, strict=True)
        ]
        assert figures["ci95"] == pytest.approx(np.percentile(samples[name], [2.5, 97.5]), abs=1e-9)
    assert [(pair["a"], pair["b"]) for pair in result.comparisons] == [
        ("encoder 1", "encoder 0"),
        ("encoder 2", "encoder 0"),
        ("encoder 2", "encoder 1"),
    ]
    for pair in result.comparisons:
        a, b = pair["a"], pair["b"]
        assert pair["protocol"] == "linear"
        assert pair["difference"] == result.encoders[a]["auc_mean"] - result.encoders[b]["auc_mean"]
        differences = np.subtract(samples[a], samples[b])
        assert pair["ci95"] == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=1e-9)


def test_an_encoder_that_sees_the_finding_beats_one_that_does_not():
    result = linear_protocol(*cohort(), fraction=0.5, draws=3, seed=0, replicates=400)
    pair = next(pair for pair in result.comparisons if (pair["a"], pair["b"]) == ("encoder 2", "encoder 0"))
    assert pair["ci95"][0] > 0
    assert pair["p"] == pytest.approx(2 / 401)


def test_an_encoder_does_not_differ_from_its_copy():
    tables, *rest = cohort(strengths=(0.8,))
    tables["copy"] = tables["encoder 0"].copy()
    pair = linear_protocol(tables, *rest, fraction=0.5, draws=2, seed=0, replicates=100).comparisons[0]
    assert (pair["difference"], pair["ci95"], pair["p"]) == (0, [0, 0], 1)


def test_an_encoder_gets_the_same_figures_whoever_it_is_compared_with():
    tables, *rest = cohort()
    settings_ = {"fraction": 0.3, "draws": 2, "seed": 1, "replicates": 50}
    alone = linear_protocol({"encoder 1": tables["encoder 1"]}, *rest, **settings_)
    assert alone.encoders["encoder 1"] == linear_protocol(tables, *rest, **settings_).encoders["encoder 1"]
    assert alone.comparisons == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.15, 1))
def test_no_patient_of_a_draw_is_on_the_test_side(seed, fraction):
    tables, labels, who, study, train, test = cohort(seed, strengths=(1.0,), features=5)
    result = linear_protocol(
        tables, labels, who, study, train, test, fraction=fraction, draws=2, seed=seed, replicates=10
    )
    for rows in result.draws:
        assert set(rows) <= set(train)
        assert not set(who[rows]) & set(who[test])
        assert np.isin(labels[rows], (0, 1)).all()
    assert np.isin(labels[result.test_rows], (0, 1)).all()


def test_a_patient_on_both_sides_is_an_error_that_counts_the_patients():
    tables, labels, who, study, train, test = cohort()
    with pytest.raises(CxrPairError, match="1 patients are on the training and on the test side"):
        linear_protocol(
            tables, labels, who, study, np.append(train, test[0]), test[1:], fraction=0.5, draws=1, seed=0, replicates=5
        )


def test_a_subgroup_is_measured_on_its_test_rows_by_the_same_probes():
    tables, labels, who, study, train, test = cohort()
    mask = np.arange(len(labels)) % 2 == 0
    result = linear_protocol(
        tables,
        labels,
        who,
        study,
        train,
        test,
        fraction=0.5,
        draws=2,
        seed=0,
        replicates=100,
        subgroups={"even": mask, "everybody": np.ones(len(mask), bool), "nobody": ~np.ones(len(mask), bool)}
        | {"sick": labels == 1},
    )
    inside = mask[result.test_rows]
    for name, scores in result.scores.items():
        groups = result.encoders[name]["subgroups"]
        aucs = [roc_auc_score(result.test_labels[inside], row[inside]) for row in scores]
        assert groups["even"]["auc_draws"] == pytest.approx(aucs, abs=1e-12)
        assert groups["even"]["radiographs"] == inside.sum()
        assert groups["everybody"]["ci95"] == result.encoders[name]["ci95"]
        assert "no labelled test radiograph" in groups["nobody"]["not_measured"]
        assert "are with the finding" in groups["sick"]["not_measured"]


def test_counts_and_protocol_tell_what_was_left_out():
    tables, labels, who, study, train, test = cohort()
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.2, draws=2, seed=3, replicates=20)
    for side, rows in (("train", train), ("test", test)):
        counts = result.counts[side]
        assert counts["radiographs"] == len(rows)
        assert counts["patients"] == len(set(who[rows]))
        assert counts["studies"] == len(set(zip(who[rows], study[rows], strict=True)))
        assert counts["labelled"] == counts["present"] + counts["absent"] == np.isin(labels[rows], (0, 1)).sum()
        assert counts["uncertain"] == (labels[rows] == -1).sum()
        assert counts["missing"] == np.isnan(labels[rows]).sum()
    assert {key: result.protocol[key] for key in ("label_fraction", "draws", "seed", "replicates", "level")} == {
        "label_fraction": 0.2,
        "draws": 2,
        "seed": 3,
        "replicates": 20,
        "level": "image",
    }


def test_replicates_without_both_classes_are_dropped_and_counted():
    tables, labels, who, study, train, test = cohort()
    labels = np.where(np.isin(labels, (0, 1)), labels, 0)
    few = np.append(test[labels[test] == 1][:1], test[labels[test] == 0][:5])
    result = linear_protocol(tables, labels, who, study, train, few, fraction=1, draws=1, seed=0, replicates=300)
    assert 50 < result.protocol["replicates_dropped"] < 200  # (5/6)^6 of them miss the one positive
    assert np.isfinite(result.encoders["encoder 1"]["ci95"]).all()
    assert result.encoders["encoder 1"]["auc_sd"] is None


def test_the_p_value_counts_each_tail_with_one_more():
    assert paired_p(np.array([1.0] * 97 + [-1.0, -1.0, np.nan])) == pytest.approx(2 * 3 / 100)
    assert paired_p(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert paired_p(np.array([1.0, -1.0])) == 1


def test_wrong_input_is_an_error_that_names_it():
    tables, labels, who, study, train, test = cohort()

    def measure(**changes):
        given = {"embeddings": tables, "labels": labels, "train_rows": train, "test_rows": test} | changes
        return linear_protocol(patients=who, studies=study, fraction=0.5, draws=1, seed=0, replicates=5, **given)

    with pytest.raises(CxrPairError, match="no encoder to evaluate"):
        measure(embeddings={})
    with pytest.raises(CxrPairError, match=r"'short' must be \(400, F\), got \(3, 2\)"):
        measure(embeddings={"short": np.zeros((3, 2), np.float32)})
    with pytest.raises(CxrPairError, match="train_rows is empty"):
        measure(train_rows=[])
    with pytest.raises(CxrPairError, match="test_rows must be distinct rows from 0 to 399, got 5 to 400"):
        measure(test_rows=[5, 400])
    with pytest.raises(CxrPairError, match="train_rows must be row numbers"):
        measure(train_rows=np.ones(400, bool))
    with pytest.raises(CxrPairError, match="subgroup 'odd' must be a bool mask"):
        measure(subgroups={"odd": np.zeros(400)})
    with pytest.raises(CxrPairError, match="0 with the finding: both classes are needed"):
        measure(test_rows=test[labels[test] == 0])


def test_what_is_measured_beside_the_auc_equals_scikit_learn():
    tables, labels, who, study, train, test = cohort()
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.6, draws=3, seed=7, replicates=40)
    weights = patient_weights(result.test_patients, replicates=40, seed=7)
    repeats = draw_weights(3, replicates=40, seed=7)
    present = result.test_labels
    for name, scores in result.scores.items():
        figures = result.encoders[name]
        for key, measure in (("pr_auc", average_precision_score), ("brier", brier_score_loss)):
            found = figures[key] if key == "pr_auc" else figures["calibration"][key]
            assert found["mean"] == pytest.approx(np.mean([measure(present, row) for row in scores]), abs=1e-9)
            samples = [
                np.average([measure(present, row, sample_weight=weight) for row in scores], weights=repeat)
                for weight, repeat in zip(weights, repeats, strict=True)
            ]
            assert found["ci95"] == pytest.approx(np.percentile(samples, [2.5, 97.5]), abs=1e-9)
        assert sum(row["n"] for row in figures["calibration"]["bins"]) == scores.size
        variance = figures["variance"]
        assert variance["draw"] == pytest.approx(figures["auc_sd"] ** 2, abs=1e-12)
        assert (variance["seed"], variance["rest"]) == (None, None)


def test_thresholds_are_chosen_in_the_draw_and_measured_on_the_test_side():
    tables, labels, who, study, train, test = cohort()
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.6, draws=2, seed=7, replicates=60)
    table, scores = tables["encoder 2"], result.scores["encoder 2"]
    for rule in ("sensitivity 95%", "Youden"):
        point = result.encoders["encoder 2"]["operating_points"][rule]
        shares = []
        for rows, row, threshold in zip(result.draws, scores, point["thresholds"], strict=True):
            probe = LinearProbe(seed=7).fit(table[rows], labels[rows], who[rows])
            held = probe.out_of_fold(table[rows], labels[rows], who[rows])
            if rule == "Youden":
                assert threshold == operating_point(labels[rows], held)["threshold"]
            else:
                assert (held >= threshold)[labels[rows] == 1].mean() >= 0.95 - 1e-12
            shares.append(recall_score(result.test_labels, row >= threshold))
        assert point["sensitivity"]["value"] == pytest.approx(np.mean(shares), abs=1e-12)
        low, high = point["sensitivity"]["ci95"]
        assert low <= np.mean(shares) <= high
        assert sum(point["confusion"].values()) == pytest.approx(len(result.test_labels))


def test_a_share_of_all_or_none_still_has_an_interval_with_a_width():
    # A perfect encoder: every replicate has sensitivity 1, and its bootstrap interval no width.
    tables, labels, who, study, train, test = cohort(strengths=(30.0,))
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.6, draws=2, seed=0, replicates=40)
    share = result.encoders["encoder 0"]["operating_points"]["Youden"]["specificity"]
    assert share["value"] == 1
    assert 0.8 < share["ci95"][0] < 1
    assert result.encoders["encoder 0"]["calibration"]["slope"] is None


def test_too_few_labels_for_a_threshold_are_said():
    tables, labels, who, study, train, test = cohort()
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.05, draws=2, seed=0, replicates=20)
    assert result.encoders["encoder 1"]["operating_points"] is None


def test_every_pair_has_delongs_p_and_both_corrected_for_the_table():
    tables, labels, who, study, train, test = cohort()
    result = linear_protocol(tables, labels, who, study, train, test, fraction=0.5, draws=3, seed=0, replicates=200)
    pairs = result.comparisons
    for pair in pairs:
        a, b = (result.scores[pair[side]] for side in "ab")
        assert pair["p_delong"] == compare_delong(result.test_labels, a, b, result.test_patients)["p"]
    for key in ("p", "p_delong"):
        assert [pair[f"{key}_holm"] for pair in pairs] == list(holm([pair[key] for pair in pairs]))


def test_a_class_with_one_patient_has_no_delong():
    tables, labels, who, study, train, test = cohort()
    labels = np.where(np.isin(labels, (0, 1)), labels, 0)
    few = np.append(test[labels[test] == 1][:1], test[labels[test] == 0][:5])
    result = linear_protocol(tables, labels, who, study, train, few, fraction=1, draws=2, seed=0, replicates=50)
    assert result.comparisons[0]["p_delong"] is None
    assert "p_delong_holm" not in result.comparisons[0]
    assert result.encoders["encoder 1"]["variance"] is None


def test_a_subgroup_of_too_few_patients_has_no_auc():
    tables, labels, who, study, train, test = cohort()
    few = np.zeros(len(labels), bool)
    few[test[labels[test] == 1][:4]] = few[test[labels[test] == 0][:30]] = True
    result = linear_protocol(
        *(tables, labels, who, study, train, test),
        **{"fraction": 0.5, "draws": 2, "seed": 0, "replicates": 20},
        subgroups={"few": few},
    )
    figures = result.encoders["encoder 1"]["subgroups"]["few"]
    assert figures["not_measured"].startswith("too few: ")
    assert (figures["radiographs"], figures["present"]) == (34, 4)
    assert "auc_mean" not in figures
