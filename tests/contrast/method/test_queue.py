"""The ring of keys and their codes."""

import pytest
import torch

from monai_cxrpair.contrast import KeyQueue
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.codes import CODES


def numbered(start, stop, dim=2):
    """Keys that are their own number, and codes that tell it too."""
    number = torch.arange(start, stop)
    codes = number[:, None] + 1000 * torch.arange(len(CODES))
    return number[:, None].repeat(1, dim).float(), codes


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 12])
def test_the_queue_holds_the_last_keys_with_their_codes_whatever_the_batch(batch):
    queue = KeyQueue(size=7, dim=2)
    for start in range(0, 40, batch):
        queue.enqueue(*numbered(start, start + batch))
        last = start + batch
        held = queue.filled
        assert sorted(queue.code("patient")[held].tolist()) == list(range(max(0, last - 7), last))
        keys, codes = queue.keys[held], queue.codes[held]
        assert torch.equal(keys[:, 0].long(), codes[:, 0])
        assert torch.equal(codes - codes[:, :1], 1000 * torch.arange(len(CODES)).expand_as(codes))
        assert int(queue.count) == last
        age = last - 1 - queue.code("patient")  # the keys are numbered as they came
        assert torch.equal(queue.age[held], age[held])
    assert not queue.codes.is_floating_point()
    assert queue.code("sex").tolist() == (queue.code("patient") + 1000 * CODES.index("sex")).tolist()


def test_codes_larger_than_a_float_can_tell_apart_stay_apart():
    queue = KeyQueue(size=2, dim=1)
    codes = torch.full((2, len(CODES)), 2**53)
    codes[1] += 1
    queue.enqueue(torch.ones(2, 1), codes)
    assert queue.code("patient")[0] != queue.code("patient")[1]


def test_the_queue_is_saved_with_the_model_and_comes_back():
    queue, other = KeyQueue(size=4, dim=2), KeyQueue(size=4, dim=2)
    queue.enqueue(*numbered(0, 6))
    assert set(queue.state_dict()) == {"keys", "codes", "count"}
    other.load_state_dict(queue.state_dict())
    for mine, theirs in zip(queue.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("lacks", "said"), [("codes", "no metadata codes"), ("count", "no count of its keys")])
def test_a_queue_of_an_earlier_version_is_one_line(lacks, said):
    old = KeyQueue(size=4, dim=2).state_dict() | {"pointer": torch.zeros(())}
    del old[lacks]
    with pytest.raises(CxrPairError, match=f"{said}: an earlier version of this package wrote it; start") as caught:
        KeyQueue(size=4, dim=2).load_state_dict(old)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"size": 0, "dim": 2}, {"size": 2, "dim": 0}])
def test_an_empty_queue_is_an_error(settings):
    with pytest.raises(CxrPairError, match="at least 1"):
        KeyQueue(**settings)
