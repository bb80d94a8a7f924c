"""One process and two: the same training, and no leak through batch normalisation. Two gloo processes on loopback."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from monai_cxrpair.contrast import InBatch, MoCo, Negatives
from monai_cxrpair.contrast import distributed as ours
from monai_cxrpair.pairing import Affinity
from monai_cxrpair.pairing.codes import CODES

RANKS, BATCH, STEPS = 2, 32, 5


class Flat(nn.Module):
    """No batch normalisation, so that how a batch is divided makes no difference."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64 * 64, 6)

    def forward(self, x):
        return self.linear(x.flatten(1)).tanh()


class Normalised(nn.Module):
    """Batch normalisation alone: whoever shares a batch shares its statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(x.flatten(1)[:, :8])


METHODS = {
    "plain": lambda: MoCo(encoder=Flat(), queue_size=80, dim=4, momentum=0.9),
    "symmetric": lambda: MoCo(
        encoder=Flat(), queue_size=80, dim=4, momentum=0.9, symmetric=True, variance_weight=0.5,
        affinity=Affinity(kernel="exponential"), negatives=Negatives(strategy="reweighted"),
    ),
    "in_batch": lambda: InBatch(encoder=Flat(), dim=4, affinity=Affinity(kernel="exponential"), variance_weight=0.5),
}  # fmt: skip


def whole_batch(step):
    """32 queries with two keys each, of patients that come again; some drawn keys are of affinity 0, some both."""
    rng = torch.Generator().manual_seed(step)
    codes = torch.full((BATCH, 3, len(CODES)), -1)
    codes[..., 0] = torch.randint(0, 40, (BATCH, 1), generator=rng)
    codes[..., 3] = torch.randint(0, 4, (BATCH, 3), generator=rng)
    codes[..., 1] = codes[..., 0] * 4 + codes[..., 3]
    codes[..., CODES.index("laterality")] = torch.randint(0, 2, (BATCH, 3), generator=rng)
    views = torch.randn(BATCH, 3, 1, 64, 64, generator=rng, dtype=torch.float64)
    affinity = torch.rand(BATCH, 2, generator=rng, dtype=torch.float64)
    affinity[torch.rand(BATCH, 2, generator=rng) < 0.5] = 0.0
    return {"query": views[:, 0], "key": views[:, 1:], "affinity": affinity, "codes": codes}


def mine(batch):
    """This rank's share of a batch, dealt as `DistributedSampler` does."""
    return {name: value[ours.rank() :: ours.world_size()] for name, value in batch.items()}


def trained(method):
    """Losses, weights and queue after some steps; on several ranks the mean loss."""
    torch.manual_seed(0)
    network = METHODS[method]().double()
    wrapped = ours.wrap(network)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        output = wrapped(**mine(whole_batch(step)))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(ours.mean_of_ranks(output.loss))
    assert ours.unwrap(wrapped) is network
    return {"losses": torch.stack(losses), **network.state_dict()}


def moved_keys(bn_groups, *, n, trials=20):
    """The share of pairs (i, j) in which key i changes when pair j is replaced.

    What leaks (He et al. 2020, section 3.3): query i and its key share batch statistics when the pairs that enter the
    ones enter the others too; then the statistics, which both carry, tell which keys may belong to a query. So j is any
    other pair of the batch in which query i is normalised, which is the batch of its rank, and "replaced" means both of
    its views. If key i is normalised by the same pairs as query i, it always changes. If keys are shuffled into G
    groups, it does so only where j fell into its group.

    The keys of a step are those that the queue takes in, so this looks at what training sees.

    Args:
        bn_groups: of the network.
        n: queries of each rank.
        trials: how many j are tried, each with another permutation.
    """
    ranks, me, moved = ours.world_size(), ours.rank(), []
    network = MoCo(encoder=Normalised(), queue_size=ranks * n, dim=3, bn_groups=bn_groups).double()
    batch = {name: value[: ranks * n] for name, value in whole_batch(0).items()}
    batch |= {"key": batch["key"][:, :1], "affinity": batch["affinity"][:, :1], "codes": batch["codes"][:, :2]}
    for trial in range(trials):
        victim = trial % (ranks * n)
        other = {name: value.clone() for name, value in batch.items()}
        other["query"][victim] += 3.0
        other["key"][victim] -= 2.0
        keys = []
        for one in (batch, other):
            torch.manual_seed(100 + trial)
            again = copy.deepcopy(network)
            again(**mine(one))
            keys.append(again.queue.keys)
        changed = (keys[0] - keys[1]).abs().amax(dim=1) > 1e-9  # (ranks n,), in the order of the whole batch
        assert changed[victim]
        group = torch.arange(victim % ranks, ranks * n, ranks)  # the queries of the victim's rank
        moved.append(changed[group[group != victim]])
        if victim % ranks == me:
            queries = [network.query_encoder(mine(one)["query"]) for one in (batch, other)]
            assert ((queries[0] - queries[1]).abs().amax(dim=1) > 1e-9).all()  # their normalisation group it is
    return float(torch.cat(moved).double().mean())


def check_that_nothing_leaks(share, *, groups):
    """Key i changes in about 1 of G pairs; less rather than more, since a group has no place for j beside i."""
    assert 0.6 / groups < share < 1.1 / groups


def rows_of_ranks():
    """Gathering and shuffling of numbered rows, for numbers of rows that the ranks divide and that they do not."""
    out, me = {}, ours.rank()
    for n in (1, 2, 5, 16):
        torch.manual_seed(n + me)  # the ranks need not draw the same
        rows = 100 * me + torch.arange(n)[:, None]
        shuffled, undo = ours.shuffle_rows(rows)
        out[n] = {"own": rows, "gathered": ours.gather_rows(rows), "batch": ours.gather_batch(rows),
                  "shuffled": shuffled, "undone": undo(shuffled * 2)}  # fmt: skip
    weight = torch.full((3, 2), 1.0 + me, requires_grad=True)
    (ours.gather_rows_with_gradient(weight) * (10**me) * torch.arange(6)[:, None]).sum().backward()
    return out | {"gradient": weight.grad}


def everything(rank, folder):
    """What one process does; the tests look at what it found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    found = {"rows": rows_of_ranks()}
    found["moved"] = {groups: moved_keys(groups, n=16) for groups in (1, 2, 4)}
    found["trained"] = {method: trained(method) for method in METHODS}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        mp.spawn(everything, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("method", METHODS)
def test_one_process_and_two_with_half_of_each_batch_train_the_same(two_ranks, method):
    """Same losses, weights, and queue with its codes, to 1e-10; and the two ranks agree bit for bit."""
    one, (first, second) = trained(method), (found["trained"][method] for found in two_ranks)
    assert one.keys() == first.keys()
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, atol=1e-10, rtol=0)
    if method != "in_batch":
        assert int(one["queue.count"]) == STEPS * BATCH * 2
    assert len(set(one["losses"].tolist())) == STEPS


@pytest.mark.parametrize("groups", [2, 4])
def test_on_one_device_a_key_is_normalised_with_other_pairs_than_its_query(groups):
    share = moved_keys(groups, n=16)
    assert share == pytest.approx((16 / groups - 1) / 15)  # exactly, in whole groups
    check_that_nothing_leaks(share, groups=groups)


@pytest.mark.parametrize("groups", [2, 4])
def test_on_two_ranks_a_key_is_normalised_with_other_pairs_than_its_query(two_ranks, groups):
    for found in two_ranks:
        check_that_nothing_leaks(found["moved"][groups], groups=groups)


def test_without_shuffling_the_same_check_fails_on_one_device_and_on_two_ranks(two_ranks):
    for share in (moved_keys(1, n=16), *(found["moved"][1] for found in two_ranks)):
        assert share == 1.0
        with pytest.raises(AssertionError):
            check_that_nothing_leaks(share, groups=2)


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_rows_are_gathered_in_order_and_shuffled_over_all_ranks_and_back(two_ranks, n):
    first, second = (found["rows"][n] for found in two_ranks)
    everyone = torch.cat([first["own"], second["own"]])
    for rank, found in enumerate((first, second)):
        assert torch.equal(found["gathered"], everyone)
        assert torch.equal(found["batch"][rank::RANKS], found["own"])
        assert torch.equal(found["undone"], 2 * found["own"])
        assert found["shuffled"].shape == found["own"].shape
        own = (found["shuffled"] // 100 == rank).sum().item()
        assert own in {n // 2, (n + 1) // 2}
    shuffled = torch.cat([first["shuffled"], second["shuffled"]])
    assert torch.equal(shuffled.sort(dim=0).values, everyone)
    if n == 16:
        assert not torch.equal(first["shuffled"].sort(dim=0).values, first["shuffled"])


def test_a_gathered_row_gets_the_gradient_of_all_ranks_losses(two_ranks):
    for rank, found in enumerate(two_ranks):
        expected = 11.0 * torch.arange(3 * rank, 3 * rank + 3)[:, None].expand(3, 2)
        assert torch.equal(found["rows"]["gradient"], expected)


def test_without_a_process_group_there_is_one_rank_and_nothing_is_wrapped():
    network, rows = Flat(), torch.arange(6.0).reshape(3, 2)
    assert (ours.world_size(), ours.rank()) == (1, 0)
    assert ours.wrap(network) is network
    assert ours.unwrap(torch.compile(network)) is network
    for gather in (ours.gather_rows, ours.gather_batch, ours.gather_rows_with_gradient, ours.mean_of_ranks):
        assert torch.equal(gather(rows), rows)
