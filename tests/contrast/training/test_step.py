"""The optimiser step of the trainer: accumulation, clipping, precision, compiling, and what it measures of itself."""

import copy
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from monai_cxrpair.contrast import ContrastiveTrainer, MoCo, ResumableSampler
from monai_cxrpair.contrast.training.precision import Arithmetic, kernels
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import as_tensors
from monai_cxrpair.pairing.codes import CODES


class Pairs(Dataset):
    """Random radiographs with two keys each; `one_patient`: all keys are of the query's patient, none is a negative."""

    seed = 0

    def __init__(self, n=24, *, one_patient=False, seconds=0.0):
        rng = np.random.default_rng(1)
        self.query = rng.integers(0, 255, (n, 1, 8, 8)).astype(np.uint8)
        self.key = rng.integers(0, 255, (n, 2, 1, 8, 8)).astype(np.uint8)
        self.one_patient, self.seconds = one_patient, seconds

    def __len__(self):
        return len(self.query)

    def set_epoch(self, epoch):
        pass

    def __getitems__(self, rows):
        time.sleep(self.seconds)
        rows = np.asarray(rows)
        codes = np.zeros((len(rows), 3, len(CODES)), np.int64)
        if not self.one_patient:
            codes += rows[:, None, None]
        return {"query": self.query[rows], "key": self.key[rows], "affinity": np.ones((len(rows), 2), np.float32),
                "row": rows, "key_row": np.stack([rows, rows], axis=1), "codes": codes}  # fmt: skip


class OnlyLoss(NamedTuple):
    loss: torch.Tensor


class OneWeight(torch.nn.Module):
    """loss = slope * weight, so that the gradient is known."""

    queue = None

    def __init__(self, slope=1.0, seconds=0.0):
        super().__init__()
        self.weight, self.slope, self.seconds = torch.nn.Parameter(torch.tensor(10.0)), slope, seconds

    def forward(self, query, key, *, affinity, codes):
        time.sleep(self.seconds)
        return OnlyLoss(self.slope * self.weight)


class Encoder(torch.nn.Module):
    """Without batch normalisation, so that a batch in parts gives the same."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3, stride=2)

    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(self.convolution(x).relu(), 2).flatten(1)


def moco(dtype=torch.float64):
    torch.manual_seed(0)
    return MoCo(encoder=Encoder(), queue_size=24, dim=5, momentum=0.9).to(dtype)


def make(network, data=None, *, batch=4, max_epochs=1, **settings):
    data = data or Pairs()
    sampler = ResumableSampler(data, num_replicas=1, rank=0, seed=0)
    loader = DataLoader(data, batch_size=batch, sampler=sampler, drop_last=True, collate_fn=as_tensors)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    return ContrastiveTrainer(
        device="cpu", max_epochs=max_epochs, train_data_loader=loader, network=network, optimizer=optimizer,
        normalisation=(0.5, 0.25), **settings,
    )  # fmt: skip


def test_accumulated_batches_move_the_weights_as_one_large_batch_does_and_the_last_incomplete_step_as_its_own_size():
    """Six batches of 4, four to a step, against plain steps of 16 and of 8. No key is a negative here."""
    network = moco()
    plain = copy.deepcopy(network)
    data = Pairs(one_patient=True)
    trainer = make(network, data, accumulation_steps=4)
    trainer.run()
    trainer.data_loader.sampler.set_epoch(1)
    order = list(trainer.data_loader.sampler)
    optimizer = torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], lr=0.1)
    for rows in (order[:16], order[16:]):
        batch = as_tensors(data.__getitems__(rows))
        views = {name: (batch[name].double() / 255 - 0.5) / 0.25 for name in ("query", "key")}
        optimizer.zero_grad()
        plain(**views, affinity=batch["affinity"], codes=batch["codes"]).loss.backward()
        optimizer.step()
    start = moco().state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=1e-12)
        assert not value.is_floating_point() or not torch.equal(value, start[name]), f"{name} did not move"


def test_within_an_accumulated_step_keys_are_enqueued_batch_by_batch_and_both_encoders_stand_still():
    network = moco()
    trainer, seen = make(network, accumulation_steps=3), []
    head, key_head = network.query_head[0].weight, network.key_head[0].weight

    @trainer.on("ITERATION_COMPLETED")
    def _look(_engine):
        seen.append((head.detach().clone(), key_head.clone(), int(network.queue.filled.sum())))

    start = head.detach().clone()
    trainer.run()
    assert [filled for *_, filled in seen] == [8, 16, 24, 24, 24, 24]
    same = [torch.equal(one[0], start) for one in seen]
    assert same == [True, True, False, False, False, False]
    assert torch.equal(seen[2][0], seen[4][0])
    assert not torch.equal(seen[4][0], seen[5][0])
    assert torch.equal(seen[0][1], seen[2][1])  # before the first step the two are equal
    assert torch.equal(seen[3][1], seen[5][1])
    torch.testing.assert_close(seen[3][1], 0.9 * seen[2][1] + 0.1 * seen[3][0], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("slope", "clip", "moved"), [(3.0, None, 0.3), (3.0, 0.5, 0.05), (-3.0, 0.5, -0.05), (0.25, 0.5, 0.025)]
)
@pytest.mark.parametrize("n", [1, 2])
def test_a_gradient_longer_than_clip_grad_norm_is_shortened_to_it_and_a_shorter_one_left(slope, clip, moved, n):
    network = OneWeight(slope)
    make(network, Pairs(4 * n), clip_grad_norm=clip, accumulation_steps=n).run()
    assert 10.0 - network.weight.item() == pytest.approx(moved, abs=2e-6)


def test_under_fp16_the_gradient_is_unscaled_before_it_is_clipped_and_a_step_that_overflowed_is_left_out():
    weight = torch.nn.Parameter(torch.tensor(10.0))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    fp16 = Arithmetic("fp16", torch.device("cpu"), torch.float32, torch.float16, scaler)
    fp16.backward(3.0 * weight)
    assert weight.grad.item() == 3 * 1024
    fp16.step(optimizer, clip_grad_norm=0.5)
    assert weight.item() == pytest.approx(9.95, abs=2e-6)
    optimizer.zero_grad()
    fp16.backward(float("inf") * weight)
    fp16.step(optimizer, clip_grad_norm=0.5)
    assert weight.item() == pytest.approx(9.95, abs=2e-6)
    assert scaler.get_scale() == 512


@pytest.mark.parametrize("setting", [{"clip_grad_norm": 0}, {"clip_grad_norm": "1"}, {"clip_grad_norm": float("nan")},
                                     {"clip_grad_norm": float("inf")}, {"clip_grad_norm": True},
                                     {"clip_grad_norm": [1]},
                                     {"accumulation_steps": 0}, {"accumulation_steps": 1.5},
                                     {"accumulation_steps": True}])  # fmt: skip
def test_a_setting_of_the_step_that_makes_no_sense_is_an_error_by_name(setting):
    with pytest.raises(CxrPairError, match=next(iter(setting))):
        make(OneWeight(), **setting)


def test_fp16_needs_cuda_and_another_word_is_no_precision():
    with pytest.raises(CxrPairError, match="precision is fp16, which needs CUDA"):
        make(OneWeight(), precision="fp16")
    with pytest.raises(CxrPairError, match="precision is 'half': use auto, bf16, fp16 or fp32"):
        make(OneWeight(), precision="half")


@pytest.mark.parametrize(("precision", "name"), [("auto", "fp64"), ("bf16", "fp64"), ("fp32", "fp64")])
def test_a_float64_network_is_trained_in_float64(precision, name, caplog):
    trainer = make(moco(), precision=precision)
    with caplog.at_level("INFO"):
        trainer.run()
    assert trainer.state.output["loss"].dtype == torch.float64
    assert caplog.text.count(f"in {name} with channels_last") == 1


def test_bf16_computes_the_encoder_in_bf16_and_leaves_the_weights_in_float32():
    network, types = moco(torch.float32), []
    network.query_encoder.register_forward_hook(lambda _module, _inputs, output: types.append(output.dtype))
    make(network, precision="bf16").run()
    assert set(types) == {torch.bfloat16}
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "native", "said"), [("bf16", False, 1), ("bf16", True, 0), ("auto", False, 0)])
def test_bf16_asked_for_where_it_is_emulated_is_one_warning(monkeypatch, caplog, precision, native, said):
    monkeypatch.setattr("monai_cxrpair.contrast.training.precision.has_bf16", lambda device: native)
    make(moco(torch.float32), precision=precision)
    assert caplog.text.count("emulated here, several times slower than fp32: use auto") == said


def test_deterministic_holds_while_training_and_is_put_back_afterwards_also_by_an_error(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    cudnn = torch.backends.cudnn

    def flags():
        return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark

    for deterministic in (True, False):
        before, during = flags(), []
        trainer = make(OneWeight(), deterministic=deterministic)

        @trainer.on("ITERATION_COMPLETED")
        def _look(_engine, during=during):
            during.append(flags())
            if len(during) == 2:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            trainer.run()
        assert during == [(deterministic, deterministic, not deterministic)] * 2
        assert flags() == before
    torch.use_deterministic_algorithms(True)  # what the user turned on stays on
    try:
        with kernels(deterministic=False):
            assert flags() == (True, True, False)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_compiled_encoders_keep_the_names_of_their_weights_and_give_the_same_result():
    plain, compiled = moco(torch.float32), moco(torch.float32)
    make(plain, precision="fp32").run()
    with torch.compiler.set_stance("force_eager"):  # to generate code takes longer than all tests of this file
        make(compiled, precision="fp32", compile_network=True).run()
    assert compiled.query_encoder._compiled_call_impl is not None
    assert compiled.key_encoder._compiled_call_impl is not None
    for (name, value), (same, other) in zip(plain.state_dict().items(), compiled.state_dict().items(), strict=True):
        assert name == same
        torch.testing.assert_close(value, other)


def test_without_a_compiler_compile_is_an_error_in_one_line(monkeypatch):
    def backend(_graph, _inputs):
        raise RuntimeError("No working C++ compiler found\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(
        "monai_cxrpair.contrast.training.trainer.compile_encoders",
        lambda network: network.query_encoder.compile(backend=backend),
    )
    trainer = make(moco(torch.float32), precision="fp32", compile_network=True)
    with pytest.raises(
        CxrPairError, match=r"compile is true, but .*No working C\+\+ compiler.*set compile false"
    ) as caught:
        trainer.run()
    assert "\n" not in str(caught.value)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves on."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    return now


@pytest.mark.parametrize(("loading", "step", "share"), [(0.03, 0.0, 1.0), (0.0, 0.03, 0.0), (0.03, 0.01, 0.75)])
def test_data_wait_is_the_share_of_the_time_spent_on_batches(clock, loading, step, share):
    trainer = make(OneWeight(seconds=step), Pairs(seconds=loading))
    trainer.run()
    assert trainer.state.metrics["data_wait"] == pytest.approx(share, abs=1e-6)


def test_each_epoch_is_one_line_with_its_speed_and_the_time_left_and_no_bar_without_a_terminal(clock, caplog, capsys):
    trainer = make(OneWeight(seconds=0.05), max_epochs=2)
    with caplog.at_level("INFO"):
        trainer.run()
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("throughput")]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1 of 2: loss ")
    assert "pairs/s" in lines[0]
    assert lines[0].endswith("0:00:00 left")
    assert "left" not in lines[1]
    assert trainer.state.metrics["pairs_per_second"] == pytest.approx(8 / 0.05)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_counts_the_pairs_of_the_whole_run(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("monai_cxrpair.contrast.training.throughput.REFRESH_SECONDS", 0.0)
    make(OneWeight(seconds=0.01), max_epochs=2).run()
    shown = capsys.readouterr().err
    assert "epoch 2 of 2" in shown
    assert "/96 " in shown  # 24 radiographs, 2 keys, 2 epochs
    assert "loss=" in shown


def test_an_infinite_loss_stops_the_run_before_the_epoch_ends():
    trainer = make(OneWeight(slope=float("inf")))
    ended = []
    trainer.add_event_handler("EPOCH_COMPLETED", lambda _: ended.append(True))
    with pytest.raises(CxrPairError, match="the loss became infinite in epoch 1"):
        trainer.run()
    assert not ended


def test_a_loss_that_was_not_looked_at_in_each_step_stops_the_run_at_the_end_of_the_epoch(monkeypatch):
    """On CUDA, where looking at it makes the device wait."""
    trainer = make(OneWeight(slope=float("nan")))
    steps, ended = [], []
    trainer.add_event_handler("ITERATION_STARTED", lambda engine: setattr(engine.state, "device", Elsewhere()))
    trainer.add_event_handler("ITERATION_COMPLETED", lambda _: steps.append(True))
    trainer.add_event_handler("EPOCH_COMPLETED", lambda _: ended.append(True))
    with pytest.raises(CxrPairError, match="the loss became NaN in epoch 1"):
        trainer.run()
    assert len(steps) == 6
    assert not ended


class Elsewhere(str):
    """Stands for a device that is not the CPU."""

    type = "cuda"

    def __new__(cls):
        return super().__new__(cls, "cpu")
