"""The learning rate by epoch, against torch's own schedulers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from monai_cxrpair.contrast import cosine
from monai_cxrpair.errors import CxrPairError


def rates(make_scheduler, epochs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler, found = make_scheduler(optimizer), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_without_a_warm_up_it_is_torchs_half_cosine():
    ours = rates(lambda optimizer: LambdaLR(optimizer, cosine(20)), 20)
    assert ours == pytest.approx(rates(lambda optimizer: CosineAnnealingLR(optimizer, 20), 20), abs=1e-12)


@given(st.integers(1, 30), st.integers(1, 30))
def test_it_rises_in_equal_steps_from_above_0_to_the_learning_rate_and_then_falls_as_torchs(warmup, rest):
    factor = cosine(warmup + rest, warmup_epochs=warmup)
    values = [factor(epoch) for epoch in range(warmup + rest)]
    assert values[: warmup + 1] == pytest.approx(torch.linspace(0, 1, warmup + 2, dtype=torch.float64)[1:].tolist())
    after = rates(lambda optimizer: CosineAnnealingLR(optimizer, rest), rest)
    assert [0.3 * value for value in values[warmup:]] == pytest.approx(after, abs=1e-12)
    assert factor(warmup + rest) == pytest.approx(0)
    assert factor(warmup + rest + 5) == pytest.approx(0)


@pytest.mark.parametrize("warmup", [-1, 20, 21])
def test_a_warm_up_as_long_as_the_run_is_an_error_by_name(warmup):
    with pytest.raises(CxrPairError, match=f"warmup_epochs is {warmup}"):
        cosine(20, warmup_epochs=warmup)
