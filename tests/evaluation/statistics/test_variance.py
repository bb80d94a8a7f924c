import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.variance import split_variance


def test_the_components_of_simulated_tables_are_found():
    rng = np.random.default_rng(0)
    known = {"seed": 0.03**2, "draw": 0.02**2, "rest": 0.01**2}
    found = {name: [] for name in known}
    for _ in range(1500):
        seed = rng.normal(0, 0.03, (6, 1))
        draw = rng.normal(0, 0.02, (1, 8))
        split = split_variance(0.8 + seed + draw + rng.normal(0, 0.01, (6, 8)), test_variance=0)
        for name in known:
            found[name].append(getattr(split, name))
    for name, variance in known.items():
        assert np.mean(found[name]) == pytest.approx(variance, rel=0.06), name


def test_the_error_of_the_mean_is_that_of_simulated_means():
    rng = np.random.default_rng(1)
    means, said = [], []
    for _ in range(2000):
        test = rng.normal(0, 0.015)  # what the test side does to all cells
        table = 0.8 + test + rng.normal(0, 0.03, (3, 1)) + rng.normal(0, 0.02, (1, 5)) + rng.normal(0, 0.01, (3, 5))
        means.append(table.mean())
        said.append(split_variance(table, test_variance=0.015**2).mean_se ** 2)
    assert np.mean(said) == pytest.approx(np.var(means), rel=0.1)


def test_the_parts_add_up_to_the_total_variance_of_one_run():
    split = split_variance([[0.7, 0.8, 0.75], [0.72, 0.9, 0.7]], test_variance=0.001)
    assert split.total == pytest.approx(split.seed + split.draw + split.rest + split.test)
    assert sum(split.shares().values()) == pytest.approx(1)


def test_one_seed_leaves_the_seed_open_and_one_draw_the_draw():
    split = split_variance([0.7, 0.8, 0.75], test_variance=0.001)
    assert (split.seed, split.rest) == (None, None)
    assert split.draw == pytest.approx(np.var([0.7, 0.8, 0.75], ddof=1))
    assert split.mean_se**2 == pytest.approx(split.draw / 3 + 0.001)
    column = split_variance([[0.7], [0.8]], test_variance=0)
    assert column.draw is None
    assert column.seed == pytest.approx(0.005)
    alone = split_variance([0.7], test_variance=0.002)
    assert (alone.seed, alone.draw, alone.shares()) == (None, None, {"test": 1})
    assert split_variance([0.7, 0.7], test_variance=0).shares() == {}


def test_what_cannot_be_split_is_an_error():
    with pytest.raises(CxrPairError, match="must be finite"):
        split_variance([0.7, np.nan], test_variance=0)
    with pytest.raises(CxrPairError, match="must be finite"):
        split_variance([], test_variance=0)
    with pytest.raises(CxrPairError, match="test_variance must be at least 0, got -1"):
        split_variance([0.7], test_variance=-1)
