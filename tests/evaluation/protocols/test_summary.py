import json
import re

import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocol import linear_protocol
from monai_cxrpair.evaluation.protocols.data import make_cases
from monai_cxrpair.evaluation.protocols.knn import KnnLearner
from monai_cxrpair.evaluation.protocols.plan import ProtocolPlan
from monai_cxrpair.evaluation.protocols.runner import run_protocol
from monai_cxrpair.evaluation.protocols.sizes import LabelSize, make_draws
from monai_cxrpair.evaluation.protocols.summary import add_protocols, learning_curve
from monai_cxrpair.evaluation.report.page import write_report
from monai_cxrpair.evaluation.report.results import results_dict, text_table
from monai_cxrpair.evaluation.report.words import forecast
from monai_cxrpair.evaluation.statistics.compare import holm

FRACTIONS = (0.1, 0.4, 1.0)


@pytest.fixture(scope="module")
def outcomes():
    """Two encoders, two protocols, three sizes, studies of two views."""
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 150, 500)
    studies = rng.integers(0, 2, 500)
    labels = (rng.random((150, 2)) < 0.4)[patients, studies].astype(float)
    tables = {}
    for name, strength in (("random weights", 0.1), ("same study", 0.7), ("third", 0.4)):
        tables[name] = rng.normal(size=(500, 12)).astype(np.float32)
        tables[name][:, :3] += strength * labels[:, None].astype(np.float32)
    sides = np.flatnonzero(patients % 3 > 0), np.flatnonzero(patients % 3 == 0)
    cases = make_cases(labels, patients, studies, *sides, aggregate="study_mean")
    knn = KnnLearner(tables, cases.labels, cases.patients)
    found = {"linear": {}, "knn": {}}
    for fraction in FRACTIONS:
        own = cases.labels[cases.train], patients[cases.train], studies[cases.train]
        drawn = make_draws(LabelSize(key="", fraction=fraction), *own, by="patient", draws=3, seed=0)
        common = {"seed": 0, "replicates": 100}
        found["linear"][f"{fraction:g}"] = linear_protocol(
            tables, labels, patients, studies, *sides, fraction=fraction, draws=3, drawn=drawn, aggregate="study_mean",
            **common,
        )  # fmt: skip
        found["knn"][f"{fraction:g}"] = run_protocol("knn", knn, list(tables), cases, drawn, **common)
    return found


@pytest.fixture(scope="module")
def results(outcomes):
    found = results_dict(outcomes["linear"]["0.1"], finding="pleural_effusion")
    add_protocols(found, outcomes)
    return found


def test_a_study_is_tested_by_the_mean_of_its_views_and_learned_from_by_radiographs(outcomes):
    result = outcomes["linear"]["1"]
    units = result.cases.units
    assert len(result.test_labels) == len(units.starts) < len(units.rows)
    assert result.protocol["tested"] == len(units.starts)
    assert result.protocol["studies_with_disagreeing_views"] == 0
    assert len(result.draws[0]) == len(result.cases.train)


def test_each_protocol_is_a_table_of_its_own_for_holm(results, outcomes):
    for protocol in ("linear", "knn"):
        pairs = [pair for pair in results["comparisons"] if pair["protocol"] == protocol]
        assert len(pairs) == 3
        assert [pair["p_holm"] for pair in pairs] == list(holm([pair["p"] for pair in pairs]))
        assert results["comparisons_by_fraction"][protocol]["0.4"] == outcomes[protocol]["0.4"].comparisons
    for entry in results["encoders"].values():
        assert list(entry["by_fraction"]["knn"]) == ["0.1", "0.4", "1"]
        assert entry["knn"]["auc_mean"] == entry["by_fraction"]["knn"]["0.1"]["auc_mean"]


def test_the_learning_curve_goes_through_the_draws_and_says_how_many_labels(outcomes):
    curve = learning_curve(outcomes["linear"])
    highest = max(f["auc_mean"] for r in outcomes["linear"].values() for f in r.encoders.values())
    assert 0 <= highest - curve["target_auc"] < 0.01
    best = curve["encoders"]["same study"]
    assert [point["auc"] for point in best["points"]] == [
        outcomes["linear"][f"{fraction:g}"].encoders["same study"]["auc_mean"] for fraction in FRACTIONS
    ]
    a, b, c = best["fit"].values()
    studies = np.array(best["line"]["studies"])
    np.testing.assert_allclose(best["line"]["auc"], a - b * studies**-c, atol=1e-12)
    assert best["forecast"]["labels"] <= 1.5 * best["points"][-1]["studies"]
    low = learning_curve(outcomes["linear"], target_auc=0.999)["encoders"]["random weights"]
    assert low["forecast"]["labels"] is None
    assert forecast(low).startswith("not reachable by this fit, which levels off at 0.")
    two = {key: outcomes["linear"][key] for key in ("0.1", "1")}
    assert "a forecast needs 3" in learning_curve(two)["encoders"]["third"]["no_fit"]


def test_the_report_has_a_table_for_each_protocol_and_the_forecast_in_words(results, tmp_path):
    page = write_report(results, out_dir=tmp_path).read_text(encoding="utf-8")
    saved = json.loads((tmp_path / "results.json").read_text())
    text = re.sub(r"<[^>]+>", " ", page)
    for entry in saved["encoders"].values():
        assert f"{entry['knn']['auc_mean']:.3f}" in text
    found = saved["learning_curve"]["linear"]["encoders"]["same study"]
    assert forecast(found) in text.replace("\N{NO-BREAK SPACE}", " ")  # none breaks inside `95 % CI`
    assert page.count("data:image/svg+xml") == 4  # reliability, decision, two learning curves; no ROC, no forest
    assert {"learning_curve.svg", "learning_curve_knn.png"} <= {file.name for file in tmp_path.iterdir()}
    assert "same study - random weights (knn): " in text_table(saved)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"protocols": ["knn"]}, "name linear, from which the classifier is made"),
        ({"protocols": ["linear", "svm"]}, "protocols has 'svm': use some of linear, knn, fine_tune"),
        ({"linear": {"optimizer": "paper"}}, "linear#optimizer is unknown: there are optimiser, c, batch_norm"),
        ({"linear": {"optimiser": "sgd"}}, "linear#optimiser is 'sgd': use converged or paper"),
        ({"linear": {"batch_norm": "live"}}, "linear#batch_norm live goes with linear#optimiser paper only"),
        ({"knn": {"k": 3}}, "knn#k is unknown: there are neighbours, temperature"),
        ({"aggregate": "study"}, "aggregate is 'study': use image or study_max or study_mean"),
        ({"draw_by": "row"}, "draw_by is 'row': use patient or radiograph"),
        ({"uncertain": "drop"}, "uncertain is 'drop'"),
        ({"fine_tune": {"preset": "x"}}, "fine_tune#preset is 'x'"),
    ],
)
def test_a_choice_that_is_none_is_named_before_anything_is_computed(choices, message):
    with pytest.raises(CxrPairError, match=message):
        ProtocolPlan(**choices)
