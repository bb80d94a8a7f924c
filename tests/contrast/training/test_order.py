"""The order of an epoch from any batch on."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from monai_cxrpair.contrast import ResumableSampler


class Fetched(Dataset):
    """Counts how often each item was fetched, in any process."""

    def __init__(self, n):
        self.count = torch.zeros(n, dtype=torch.int64).share_memory_()

    def __len__(self):
        return len(self.count)

    def __getitem__(self, item):
        self.count[item] += 1
        return item


@given(
    n=st.integers(1, 40),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
    item=st.integers(0, 40),
)
def test_it_is_the_end_of_torchs_own_order_in_that_epoch_and_torchs_order_in_all_others(n, ranks, seed, epoch, item):
    for rank in range(ranks):
        theirs = DistributedSampler(range(n), num_replicas=ranks, rank=rank, seed=seed)
        ours = ResumableSampler(range(n), num_replicas=ranks, rank=rank, seed=seed)
        ours.start_at(epoch=epoch, item=item)
        for now in range(4):
            theirs.set_epoch(now)
            ours.set_epoch(now)
            assert list(ours) == list(theirs)[item if now == epoch else 0 :]
            assert len(ours) == len(theirs)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_begins_at_the_batch_and_never_fetches_what_comes_before(workers):
    data = Fetched(20)
    sampler = ResumableSampler(data, num_replicas=1, rank=0, seed=1)
    loader = DataLoader(data, batch_size=3, sampler=sampler, drop_last=True, num_workers=workers,
                        persistent_workers=workers > 0)  # fmt: skip
    sampler.start_at(epoch=2, item=12)
    for epoch, batches in ((2, 2), (3, 6), (4, 6)):
        sampler.set_epoch(epoch)
        data.count.zero_()
        seen = torch.cat(list(loader)).tolist()
        assert len(seen) == 3 * batches
        assert Counter(seen) == Counter(data.count.nonzero().flatten().tolist())
        assert len(loader) == 6  # of a whole epoch: the trainer counts by it
