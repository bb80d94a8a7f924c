import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from monai_cxrpair.evaluation.report import curves
from monai_cxrpair.evaluation.report.curves import curve_bands, draw_pr


def cases(n=300, *, share=0.4, strength=1.0, decimals=1):
    rng = np.random.default_rng(0)
    labels = rng.random(n) < share
    return labels, np.round(rng.normal(size=n) + strength * labels, decimals)


def precisions_at(labels, scores, recalls, weights=None):
    """The precision of the highest threshold that reaches each recall, from scikit-learn's curve."""
    precision, reached, _ = precision_recall_curve(labels, scores, sample_weight=weights)
    precision, reached = precision[:-1], reached[:-1]  # without the point (0, 1), which no threshold has
    # Thresholds rise, so that recall falls.
    return [precision[(reached >= recall - 1e-9) & (reached > 0)][-1] for recall in recalls]


def test_the_mean_roc_of_one_draw_is_scikit_learns_curve_and_encloses_the_auc():
    labels, scores = cases()
    band = curve_bands(labels, scores, np.arange(300), replicates=100)["roc"]
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(band["tpr"], np.interp(band["fpr"], fpr, tpr), atol=1e-4)
    low, curve, high = (np.array(band[key]) for key in ("low", "tpr", "high"))
    assert (low <= curve + 0.02).all()
    assert (curve <= high + 0.02).all()
    assert np.trapezoid(curve, band["fpr"]) == pytest.approx(roc_auc_score(labels, scores), abs=0.01)


# One hundred with the finding: each recall of the grid is reached exactly, where rounding errors bite.
@pytest.mark.parametrize(("decimals", "share"), [(1, 0.4), (9, 0.4), (9, 0.05), (0, 0.9)])
def test_the_precision_at_each_recall_is_that_of_scikit_learns_highest_threshold_that_reaches_it(decimals, share):
    labels, scores = cases(share=share, decimals=decimals)
    band = curve_bands(labels, scores, np.arange(300), replicates=20)["pr"]
    expected = precisions_at(labels, scores, band["recall"])
    np.testing.assert_allclose(band["precision"], expected, rtol=0, atol=0.5001e-4)
    assert band["prevalence"] == pytest.approx(labels.mean())
    assert band["precision"][-1] >= band["prevalence"] - 1e-4


def test_with_as_many_positives_as_steps_the_area_of_the_curve_is_the_average_precision():
    rng = np.random.default_rng(1)
    labels = np.repeat([True, False], [100, 250])
    scores = rng.normal(size=350) + labels
    band = curve_bands(labels, scores, np.arange(350), replicates=5)["pr"]
    assert np.mean(band["precision"][1:]) == pytest.approx(average_precision_score(labels, scores), abs=1e-4)


def test_the_curves_of_several_draws_are_averaged_at_each_point():
    labels, first = cases(strength=2.0)
    second = np.random.default_rng(3).normal(size=300)
    both, *single = (curve_bands(labels, s, np.arange(300), replicates=5) for s in ([first, second], first, second))
    for kind, key in (("roc", "tpr"), ("pr", "precision")):
        np.testing.assert_allclose(both[kind][key], np.mean([s[kind][key] for s in single], axis=0), atol=1.1e-4)


def test_the_band_is_made_of_the_patients_that_are_drawn_and_not_of_their_radiographs():
    labels, scores = cases(120)
    alone = curve_bands(labels, scores, np.arange(120), replicates=200)["pr"]
    copied = curve_bands(*(np.repeat(x, 8) for x in (labels, scores, np.arange(120))), replicates=200)["pr"]
    assert copied == alone  # eight copies of each radiograph tell nothing new
    forgotten = curve_bands(*(np.repeat(x, 8) for x in (labels, scores)), np.arange(960), replicates=200)["pr"]
    width = [np.mean(np.subtract(band["high"], band["low"])) for band in (alone, forgotten)]
    assert width[1] < width[0] / 2


def test_the_band_is_the_percentiles_of_scikit_learns_weighted_curves(monkeypatch):
    labels, scores = cases(80, decimals=1)
    # Replicates that leave whole patients out, some of them at the top of the list: precision must not be 0 / 0 there.
    weights = np.random.default_rng(5).poisson(1, (30, 80)).astype(np.int16)
    weights[0, np.argsort(-scores)[:10]] = 0
    monkeypatch.setattr(curves, "patient_weights", lambda *_, **__: weights)
    band = curve_bands(labels, scores, np.arange(80))["pr"]
    # What was not drawn is taken out, instead of given weight 0.
    samples = [precisions_at(labels[w > 0], scores[w > 0], band["recall"], w[w > 0]) for w in weights]
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(band["low"], low, rtol=0, atol=0.5001e-4)
    np.testing.assert_allclose(band["high"], high, rtol=0, atol=0.5001e-4)


def test_memory_blocks_change_nothing(monkeypatch):
    labels, scores = cases(60)
    whole = curve_bands(labels, scores, np.arange(60), replicates=30)
    monkeypatch.setattr(curves, "_BLOCK", 200)
    assert curve_bands(labels, scores, np.arange(60), replicates=30) == whole


def test_perfect_and_inverted_scores_give_the_ends_of_the_scale():
    labels = np.repeat([True, False], [20, 60])
    perfect = curve_bands(labels, labels.astype(float), np.arange(80), replicates=20)
    assert set(perfect["pr"]["precision"]) == set(perfect["pr"]["low"]) == {1.0}
    assert set(perfect["roc"]["tpr"]) == {1.0}
    blind = curve_bands(labels, np.zeros(80), np.arange(80), replicates=20)
    assert set(blind["pr"]["precision"]) == {0.25}
    np.testing.assert_allclose(blind["roc"]["tpr"], blind["roc"]["fpr"])


def test_the_picture_is_drawn_with_the_line_of_guessing(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.axhline", lambda self, y=0, **_: drawn.append(y))
    labels, scores = cases()
    band = curve_bands(labels, scores, np.arange(300), replicates=5)["pr"]
    png, svg = draw_pr({"_$x$": band}, {"_$x$": "0.612"}, out_dir=tmp_path)
    assert drawn == [band["prevalence"]]
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in svg.read_text()
