"""The loader of a cached dataset: the same batches however they are prepared."""

import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import BatchLoader


class Rows(Dataset):
    """Batches of row numbers; knows which threads asked for them and when."""

    threaded = True

    def __init__(self, n=12, *, fails_at=None, seconds=0.0):
        self.n, self.fails_at, self.seconds = n, fails_at, seconds
        self.threads, self.made = set(), 0

    def __len__(self):
        return self.n

    def __getitems__(self, indices):
        time.sleep(self.seconds)
        self.threads.add(threading.current_thread().name)
        self.made += 1
        if self.fails_at in indices:
            raise CxrPairError("i7: damaged")
        return {"row": np.asarray(indices)}


def rows(loader):
    return [batch["row"].tolist() for batch in loader]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prefetch": 0},
        {"prefetch": 5},
        {"num_workers": 2},
        {"num_workers": 1},
        {"num_workers": 2, "processes": True},
    ],
)
def test_batches_come_in_the_order_of_the_sampler(settings):
    order = [7, 3, 1, 0, 11, 5, 6]
    loader = BatchLoader(Rows(), batch_size=3, sampler=order, **settings)
    for _ in range(2):
        assert rows(loader) == [[7, 3, 1], [0, 11, 5], [6]]


def test_the_next_batches_are_made_while_one_is_used():
    data = Rows()
    batches = iter(BatchLoader(data, batch_size=2, prefetch=2))
    next(batches)
    for _ in range(200):
        if data.made == 3:
            break
        time.sleep(0.01)
    assert data.made == 3
    assert threading.current_thread().name not in data.threads


def test_an_epoch_that_is_left_early_leaves_no_thread_behind():
    before = threading.active_count()
    batches = iter(BatchLoader(Rows(), batch_size=2))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_an_error_of_the_dataset_reaches_the_loop():
    batches = iter(BatchLoader(Rows(fails_at=7), batch_size=2))
    assert [next(batches)["row"].tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(CxrPairError, match="i7: damaged"):
        next(batches)


def test_threads_draw_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    rows(BatchLoader(Rows(), batch_size=2, num_workers=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_several_threads_work_side_by_side_and_the_order_stays():
    data = Rows(seconds=0.1)
    started = time.perf_counter()
    assert rows(BatchLoader(data, batch_size=2, num_workers=3)) == [[i, i + 1] for i in range(0, 12, 2)]
    assert time.perf_counter() - started < 0.5  # one after another: 0.6
    assert len(data.threads) == 3


def test_a_dataset_that_is_python_gets_processes():
    data = Rows()
    data.threaded = False
    loader = BatchLoader(data, batch_size=2, num_workers=2)
    assert len(rows(loader)) == 6
    assert not data.threads  # those were in other processes


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_workers": -1}, "num_workers is -1"), ({"prefetch": 0, "num_workers": 1}, "prefetch is 0"),
     ({"num_workers": "2"}, "num_workers is '2'")],
)  # fmt: skip
def test_a_number_out_of_range_is_an_error(settings, message):
    with pytest.raises(CxrPairError, match=message):
        BatchLoader(Rows(), batch_size=2, **settings)
