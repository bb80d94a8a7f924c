"""Which process does what; that several train as one is shown in tests/integration/test_torchrun.py."""

import pytest
import torch

from monai_cxrpair.contrast import ResumableSampler, scale_out
from monai_cxrpair.errors import CxrPairError


@pytest.fixture
def started_by_torchrun(monkeypatch):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def test_batch_size_is_shared_out_evenly_or_refused(monkeypatch):
    assert scale_out.per_rank(15) == 15
    monkeypatch.setattr(scale_out, "world_size", lambda: 4)
    assert scale_out.per_rank(16) == 4
    with pytest.raises(CxrPairError, match="batch_size is 18: it must be a multiple of the 4 processes"):
        scale_out.per_rank(18)


def test_without_torchrun_the_overlay_says_how_to_start(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(CxrPairError, match="torchrun --standalone --nproc_per_node=N"):
        scale_out.join()


def test_a_backend_that_is_unknown_or_cannot_work_here_is_an_error_by_name(started_by_torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CxrPairError, match="dist_backend is 'mpi': use auto, nccl or gloo"):
        scale_out.join("mpi")
    with pytest.raises(CxrPairError, match="dist_backend is nccl, which needs CUDA"):
        scale_out.join("nccl")


def test_each_process_has_the_device_of_its_number(started_by_torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert scale_out.local_device() == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(CxrPairError, match="nproc_per_node is more than the 1 GPUs"):
        scale_out.local_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert scale_out.local_device() == torch.device("cpu")


@pytest.mark.parametrize(("radiographs", "batch"), [(31, 16), (64, 16), (47, 12), (48, 12)])
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batches_of_one_process_and_none_of_them_sees_anothers(radiographs, batch, ranks):
    """As the overlay sets the samplers: with drop_last."""
    order = list(ResumableSampler(range(radiographs), num_replicas=1, rank=0, seed=3))
    shares = [
        list(ResumableSampler(range(radiographs), num_replicas=ranks, rank=rank, seed=3, drop_last=True))
        for rank in range(ranks)
    ]
    part = batch // ranks
    assert {len(share) // part for share in shares} == {radiographs // batch}
    for step in range(radiographs // batch):
        together = [row for share in shares for row in share[step * part : (step + 1) * part]]
        assert sorted(together) == sorted(order[step * batch : (step + 1) * batch])
