import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.decision import decision_curve


def test_a_perfect_model_is_worth_the_prevalence_at_every_threshold():
    curve = decision_curve([1, 0, 0, 0], [1.0, 0, 0, 0])
    assert curve["net_benefit"] == pytest.approx([0.25] * 99, abs=1e-15)


def test_a_model_that_calls_everybody_is_worth_as_much_as_treating_all():
    curve = decision_curve([1, 0, 0, 1, 0], [1.0] * 5)
    assert curve["net_benefit"] == pytest.approx(curve["treat_all"], abs=1e-15)
    at_prevalence = decision_curve([1, 0, 0, 1, 0], [1.0] * 5, [0.4])
    assert at_prevalence["treat_all"] == pytest.approx([0], abs=1e-15)


def test_a_model_that_calls_nobody_is_worth_nothing():
    assert decision_curve([1, 0], [0.0, 0.0])["net_benefit"] == [0] * 99


def test_net_benefit_equals_the_count_at_each_threshold():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(200) < 0.3, np.round(rng.random(200), 2)  # ties with thresholds
    curve = decision_curve(labels, scores)
    for t, benefit in zip(curve["thresholds"], curve["net_benefit"], strict=True):
        called = scores >= t
        expected = (called & labels).sum() / 200 - (called & ~labels).sum() / 200 * t / (1 - t)
        assert benefit == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("threshold", [0, 1, -0.1])
def test_a_threshold_at_the_ends_is_an_error(threshold):
    with pytest.raises(CxrPairError, match="thresholds must lie between 0 and 1"):
        decision_curve([0, 1], [0.1, 0.2], [threshold])


def test_no_radiograph_is_an_error():
    with pytest.raises(CxrPairError, match="no radiograph to decide on"):
        decision_curve([], [])
