"""The training loop: what it checks, what it reports, and that a resumed run ends as an uninterrupted one."""

import json

import numpy as np
import pytest
import torch
from tiny_run import Encoder, Pairs
from torch.utils.data import DataLoader

from monai_cxrpair.contrast import ContrastiveTrainer, MoCo, Negatives, ResumableSampler, SaveRun
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import as_tensors
from monai_cxrpair.pairing import Affinity


def make(
    tmp_path,
    *,
    max_epochs=4,
    resume=False,
    queue=8,
    poison=False,
    batch=4,
    precision="fp32",
    workers=0,
    pairing=None,
    **network_settings,
):
    torch.manual_seed(0)
    data = Pairs(poison)
    network = MoCo(encoder=Encoder(), queue_size=queue, dim=3, **network_settings)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    card = {"format": "x", "pairing": pairing, "training": {"rate": (1, 2)}}
    states = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler}
    sampler = ResumableSampler(data, num_replicas=1, rank=0, seed=0)
    loader = DataLoader(
        data, batch_size=batch, sampler=sampler, drop_last=True, collate_fn=as_tensors, num_workers=workers
    )
    trainer = ContrastiveTrainer(
        device="cpu", max_epochs=max_epochs, train_data_loader=loader, network=network, optimizer=optimizer,
        normalisation=(0.3, 0.2), precision=precision, states=states, settings=card,
        resume_from=tmp_path / "checkpoints" if resume else None,
    )  # fmt: skip
    trainer.add_event_handler("EPOCH_COMPLETED", lambda _: scheduler.step())
    SaveRun(output_dir=tmp_path, states=states, encoder=network.query_encoder, card=card).attach(trainer)
    return trainer


def assert_equal_weights(one, two):
    for (name, mine), theirs in zip(one.network.state_dict().items(), two.network.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


class KilledError(Exception):
    pass


SYNTHETIC = {
    "negatives": Negatives(strategy="synthetic", share=0.5), "affinity": Affinity(kernel="exponential"), "queue": 7
}  # fmt: skip


@pytest.mark.parametrize(("step", "settings"), [(3, {}), (4, {}), (8, {}), (11, {}), (8, SYNTHETIC), (11, SYNTHETIC)])
def test_a_run_killed_in_any_epoch_and_resumed_ends_bit_equal_to_an_uninterrupted_one(tmp_path, step, settings):
    whole = make(tmp_path / "whole", **settings)
    whole.run()
    killed = make(tmp_path / "parts", **settings)

    @killed.on("ITERATION_COMPLETED")
    def _kill(engine):
        if engine.state.iteration == step:
            raise KilledError

    with pytest.raises(KilledError):
        killed.run()
    rest = make(tmp_path / "parts", resume=True, **settings)
    rest.run()
    assert rest.state.epoch == 4
    assert_equal_weights(whole, rest)


def test_the_number_of_workers_changes_nothing(tmp_path):
    none, two = make(tmp_path / "none"), make(tmp_path / "two", workers=2)
    none.run()
    two.run()
    assert_equal_weights(none, two)


def test_every_epoch_has_another_order(tmp_path):
    trainer, orders = make(tmp_path), []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda e: orders.append(tuple(e.state.batch["row"].tolist())))
    trainer.run()
    assert len(set(orders)) == len(orders)


def test_a_new_run_moves_the_checkpoints_of_an_earlier_one_aside(tmp_path, caplog):
    make(tmp_path, max_epochs=3).run()
    make(tmp_path, max_epochs=1).run()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["epoch_00001_batch_000003.pt"]
    assert len(list((tmp_path / "checkpoints.1").iterdir())) == 2
    assert "checkpoints.1" in caplog.text


def test_a_checkpoint_made_with_other_settings_is_refused_with_the_difference(tmp_path):
    make(tmp_path, max_epochs=1, pairing={"study": "same"}).run()
    with pytest.raises(CxrPairError, match="pairing#study was same, is any"):
        make(tmp_path, resume=True, pairing={"study": "any"}).run()


def test_a_finished_run_is_not_trained_again(tmp_path):
    make(tmp_path, max_epochs=2).run()
    again = make(tmp_path, max_epochs=2, resume=True)
    again.run()
    assert again.state.iteration == 6


def test_each_epoch_reports_its_figures_and_leaves_encoder_card_and_the_last_two_checkpoints(tmp_path):
    trainer = make(tmp_path, max_epochs=3)
    trainer.run()
    assert trainer.state.metrics["self_pair_rate"] == pytest.approx(4 / 12)
    assert trainer.state.metrics["pairs_per_second"] > 0
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "epoch_00002_batch_000003.pt",
        "epoch_00003_batch_000003.pt",
    ]
    card = json.loads((tmp_path / "encoder.json").read_text())
    assert card["training"]["epochs"] == 3
    assert card["training"]["last_epoch"]["loss"] == pytest.approx(trainer.state.metrics["loss"])
    state = torch.load(tmp_path / "encoder.pt", weights_only=True)
    for name, value in trainer.network.query_encoder.state_dict().items():
        assert torch.equal(state[name], value)


def test_learning_lowers_the_loss_once_the_queue_is_full(tmp_path):
    trainer = make(tmp_path, max_epochs=30)
    losses = []
    trainer.add_event_handler("EPOCH_COMPLETED", lambda e: losses.append(e.state.metrics["loss"]))
    trainer.run()
    assert np.mean(losses[-3:]) < np.mean(losses[2:5])


def test_bf16_trains_too(tmp_path):
    trainer = make(tmp_path, max_epochs=1, precision="bf16")
    trainer.run()
    assert np.isfinite(trainer.state.metrics["loss"])


def test_a_queue_larger_than_the_cohort_is_an_error(tmp_path):
    with pytest.raises(CxrPairError, match="queue_size is 13 but there are only 12"):
        make(tmp_path, queue=13)


def test_a_batch_larger_than_the_cohort_is_an_error(tmp_path):
    with pytest.raises(CxrPairError, match="batch_size"):
        make(tmp_path, batch=13)


def test_a_loss_that_becomes_nan_stops_the_run(tmp_path):
    with pytest.raises(CxrPairError, match="NaN in epoch 1"):
        make(tmp_path, poison=True).run()


def test_a_checkpoint_whose_queue_has_no_codes_is_refused_in_one_line(tmp_path):
    make(tmp_path, max_epochs=1).run()
    path = tmp_path / "checkpoints" / "epoch_00001_batch_000003.pt"
    state = torch.load(path, weights_only=True)
    del state["network"]["queue.codes"]
    torch.save(state, path)
    with pytest.raises(CxrPairError, match="no metadata codes: an earlier version") as caught:
        make(tmp_path, resume=True).run()
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_and_one_of_another_cohort_are_refused_by_name(tmp_path):
    make(tmp_path, max_epochs=1).run()
    with pytest.raises(CxrPairError, match=r"epoch_00001_batch_000003\.pt: made with 3 batches"):
        make(tmp_path, resume=True, batch=6).run()
    (tmp_path / "checkpoints" / "epoch_00001_batch_000003.pt").write_bytes(b"damaged")
    with pytest.raises(CxrPairError, match=r"epoch_00001_batch_000003\.pt: damaged"):
        make(tmp_path, resume=True).run()


def test_a_users_mistake_within_the_loop_is_said_by_nobody_before_it_is_caught(tmp_path, caplog, capsys):
    with caplog.at_level("INFO"), pytest.raises(CxrPairError, match="the loss became NaN"):
        make(tmp_path, poison=True).run()
    assert not [record for record in caplog.records if record.levelname == "ERROR" or record.exc_info]
    assert "Traceback" not in "".join(capsys.readouterr())


def test_another_error_within_the_loop_is_logged_by_the_engine(tmp_path, caplog):
    trainer = make(tmp_path)

    @trainer.on("ITERATION_COMPLETED")
    def _fail(engine):
        raise KilledError("out of order")

    with pytest.raises(KilledError):
        trainer.run()
    assert "out of order" in caplog.text


def test_the_log_of_a_run_is_the_packages_own_and_ends_with_where_the_encoder_is(tmp_path, caplog):
    with caplog.at_level("INFO"):
        make(tmp_path, max_epochs=2).run()
    assert not [record.name for record in caplog.records if record.name.startswith(("ignite", "monai."))]
    last = caplog.records[-1].getMessage()
    assert last == f"encoder.pt is of epoch 2 of 2, in {tmp_path}; next: evaluating"
    assert "accuracy" in next(r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch 1 of 2"))
