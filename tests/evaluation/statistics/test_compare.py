import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.compare import compare_bootstrap, compare_delong, holm
from monai_cxrpair.evaluation.statistics.delong import delong


def test_holm_equals_a_table_worked_by_hand():
    # Sorted: 0.005 x 4 = 0.020, 0.01 x 3 = 0.030, 0.03 x 2 = 0.060, 0.04 x 1 = 0.040, lifted to 0.060.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
    np.testing.assert_allclose(holm([0.4, 0.9]), [0.8, 0.9])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(values):
    p, corrected = np.array(values), holm(values)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, p * len(p)) + 1e-15).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("wrong", [[0.5, 1.1], [-0.1], [np.nan], [[0.1]]])
def test_p_values_that_are_none_are_an_error(wrong):
    with pytest.raises(CxrPairError, match="holm: p must be numbers from 0 to 1"):
        holm(wrong)


def scores(seed=0, draws=1, rows=200):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    common = rng.normal(size=rows)
    a, b = (common + 0.7 * rng.normal(size=(draws, rows)) + strength * labels for strength in (1.2, 0.9))
    return labels, a, b


def test_with_one_draw_it_is_delongs_test():
    labels, a, b = scores()
    found = compare_delong(labels, a, b, None)
    oracle = delong(labels, np.stack([a[0], b[0]]))
    assert found["difference"] == pytest.approx(oracle.aucs[0] - oracle.aucs[1], abs=1e-12)
    variance = oracle.covariance[0, 0] + oracle.covariance[1, 1] - 2 * oracle.covariance[0, 1]
    assert found["se"] == pytest.approx(np.sqrt(variance), abs=1e-12)
    assert found["p"] == pytest.approx(2 * norm.sf(abs(found["difference"]) / np.sqrt(variance)), abs=1e-12)
    assert found["df"] is None


def test_with_several_draws_their_spread_is_added():
    labels, a, b = scores(draws=4)
    patients = np.arange(200) // 3
    found = compare_delong(labels, a, b, patients)
    each = [compare_delong(labels, a[[k]], b[[k]], patients)["difference"] for k in range(4)]
    _, of_test = delong(labels, np.concatenate([a, b]), patients).contrast([0.25] * 4 + [-0.25] * 4)
    between = np.var(each, ddof=1) / 4
    assert found["difference"] == pytest.approx(np.mean(each), abs=1e-12)
    assert found["se"] ** 2 == pytest.approx(of_test**2 + between, abs=1e-12)
    assert found["df"] == pytest.approx((of_test**2 + between) ** 2 / (between**2 / 3), rel=1e-9)
    assert found["p"] == pytest.approx(2 * t.sf(abs(np.mean(each)) / found["se"], found["df"]), abs=1e-12)


def test_swapping_the_encoders_changes_the_sign_alone():
    labels, a, b = scores(draws=3)
    there, back = compare_delong(labels, a, b, None), compare_delong(labels, b, a, None)
    assert there["difference"] == pytest.approx(-back["difference"], abs=1e-15)
    assert there["p"] == pytest.approx(back["p"], abs=1e-12)


def test_an_encoder_against_its_copy_and_against_its_opposite():
    labels = np.arange(20) % 2
    perfect = np.stack([labels, labels]).astype(float)
    assert compare_delong(labels, perfect, perfect, None)["p"] == 1
    assert compare_delong(labels, perfect, -perfect, None)["p"] == 0


def test_different_numbers_of_draws_are_an_error():
    labels, a, b = scores(draws=2)
    with pytest.raises(CxrPairError, match="the draws must be the same"):
        compare_delong(labels, a, b[:1], None)


def test_the_bootstrap_leaves_out_replicates_without_a_class():
    first, second = np.array([0.7, 0.8, np.nan]), np.array([0.6, 0.6, np.nan])
    found = compare_bootstrap(first, second)
    assert found["ci95"] == pytest.approx([0.1025, 0.1975])
    assert found["p"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("draw_spread", [0.0, 0.6])
def test_two_encoders_alike_are_told_apart_in_no_more_than_one_of_twenty_tables(draw_spread):
    # Each draw's probe looks in its own direction: leaving that out would call chance a finding.
    rng = np.random.default_rng(5)
    labels = np.arange(120) % 2
    false = 0
    for _ in range(300):
        made = []
        for _encoder in range(2):
            strength = 1 + draw_spread * rng.normal(size=(5, 1))
            made.append(rng.normal(size=120) + strength * labels + 0.3 * rng.normal(size=(5, 120)))
        false += compare_delong(labels, *made, None)["p"] < 0.05
    assert false / 300 < 0.08
