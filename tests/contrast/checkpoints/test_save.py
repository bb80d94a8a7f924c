"""What a run leaves behind: which checkpoints, which epoch's encoder, and what a full disk costs."""

import json
import resource
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest
import torch

from monai_cxrpair.contrast import SaveRun
from monai_cxrpair.errors import CxrPairError

NAN = float("nan")


def names(folder):
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


def end_of(epoch):
    return f"epoch_{epoch:05d}_batch_000003.pt"


def encoders_of(trainer):
    """A copy of the encoder's weights at the end of each epoch."""
    copies = []

    @trainer.on("EPOCH_COMPLETED")
    def _copy(engine):
        copies.append({n: v.clone() for n, v in engine.network.query_encoder.state_dict().items()})

    return copies


@pytest.mark.parametrize(
    ("figures", "epoch"),
    [
        ((0.5, 0.9, 0.7, 0.8), 2),
        ((0.5, NAN, 0.7, 0.6), 3),
        ((NAN, 0.2, NAN, NAN), 2),
        ((None, 0.6, None, 0.5), 2),  # measured every second epoch: what is left over from epoch 2 is not that of 3
        ((0.7, 0.7, 0.7, 0.7), 1),
        ((0.5, float("inf"), 0.6, 0.4), 3),
    ],
)
def test_encoder_pt_is_of_the_epoch_with_the_highest_figure_also_of_a_run_that_was_killed(
    make, tmp_path, figures, epoch
):
    for step in (None, 4, 6, 7, 10):
        folder = tmp_path / str(step)
        settings = {"figures": figures, "best_by": "knn_auc", "keep": 1}
        copies = []
        if step is not None:
            killed = make(folder, **settings)
            copies = encoders_of(killed)

            @killed.on("ITERATION_COMPLETED")
            def _kill(engine, step=step):
                if engine.state.iteration == step:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                killed.run()
        rest = make(folder, **settings)
        later = encoders_of(rest)
        rest.run()
        weights = (copies + later)[epoch - 1]
        for name, value in torch.load(folder / "encoder.pt", weights_only=True).items():
            assert torch.equal(value, weights[name])
        card = json.loads((folder / "encoder.json").read_text())["training"]
        assert (card["epoch"], card["chosen_by"]) == (epoch, "knn_auc")
        assert card["last_epoch"]["knn_auc"] == figures[epoch - 1]
        assert names(folder) == sorted({end_of(epoch), end_of(4)})


def test_without_any_figure_encoder_pt_is_of_the_last_epoch_and_a_warning_says_so(make, tmp_path, caplog):
    make(tmp_path, figures=(NAN, None, NAN, None), best_by="knn_auc").run()
    card = json.loads((tmp_path / "encoder.json").read_text())["training"]
    assert (card["epoch"], card["chosen_by"]) == (4, "last epoch")
    assert "no epoch had a value of knn_auc" in caplog.text


def test_an_encoder_saved_just_before_the_run_was_killed_stays_the_best_one(make, tmp_path):
    """The encoder is written before the checkpoint: the run that goes on does not know it, its card does."""
    figures = (0.5, 0.9, 0.7, 0.8)
    killed = make(tmp_path, figures=figures, best_by="knn_auc", checkpoint_minutes=0)
    copies = encoders_of(killed)
    killed.run()
    for epoch in (2, 3, 4):
        (tmp_path / "checkpoints" / end_of(epoch)).unlink(missing_ok=True)
    make(tmp_path, max_epochs=1, figures=figures, best_by="knn_auc", resume=False).run()  # moved aside: epoch 1 only
    card = json.loads((tmp_path / "encoder.json").read_text())["training"]
    assert card["epoch"] == 1
    torch.save(copies[1], tmp_path / "encoder.pt")
    card = json.loads((tmp_path / "encoder.json").read_text())
    card["training"] |= {"epoch": 2, "last_epoch": {"knn_auc": 0.95}}
    (tmp_path / "encoder.json").write_text(json.dumps(card))
    rest = make(tmp_path, figures=figures, best_by="knn_auc")
    rest.run()
    assert rest.state.best == {"by": "knn_auc", "value": 0.95, "epoch": 2}
    assert torch.equal(torch.load(tmp_path / "encoder.pt", weights_only=True)["norm.weight"], copies[1]["norm.weight"])


def test_a_new_run_killed_in_its_first_epoch_does_not_take_an_earlier_runs_encoder_for_its_own(make, tmp_path):
    make(tmp_path, figures=(0.95,) * 4, best_by="knn_auc", card={"pairing": "old"}).run()
    earlier = (tmp_path / "encoder.pt").read_bytes()

    def kill(engine):
        if engine.state.iteration == 2:
            raise KilledError

    settings = {"figures": (0.5, 0.8, 0.6, 0.7), "best_by": "knn_auc", "card": {"pairing": "new"}}
    killed = make(tmp_path, resume=False, **settings)
    killed.add_event_handler("ITERATION_COMPLETED", kill)
    with suppress(KilledError):
        killed.run()
    assert (tmp_path / "encoder.1.pt").read_bytes() == earlier
    make(tmp_path, **settings).run()
    card = json.loads((tmp_path / "encoder.json").read_text())
    assert card["pairing"] == "new"
    assert card["training"]["epoch"] == 2


def test_weights_that_are_no_numbers_any_more_are_not_saved_in_mid_epoch(make, tmp_path):
    """On CUDA the loss is not looked at in every step: before a checkpoint it is."""
    trainer = make(tmp_path)

    @trainer.on("ITERATION_STARTED")
    def _spoil(engine):
        engine.state.device = Elsewhere()
        if engine.state.iteration == 2:
            next(engine.network.query_encoder.parameters()).data.fill_(NAN)

    with pytest.raises(CxrPairError, match="the loss became NaN in epoch 1"):
        trainer.run()
    assert names(tmp_path) == ["epoch_00001_batch_000001.pt"]


def test_the_gradient_scaler_goes_on_where_it_was(make, tmp_path):
    killed = make(tmp_path, max_epochs=1)
    killed.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    killed.scaler.scale(torch.ones(()))  # it exists from its first use on
    killed.run()
    rest = make(tmp_path, max_epochs=2)
    rest.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    rest.run()
    assert rest.scaler.state_dict()["scale"] == 4.0


class KilledError(Exception):
    pass


class Elsewhere(str):
    """Stands for a device that is not the CPU."""

    type = "cuda"

    def __new__(cls):
        return super().__new__(cls, "cpu")


def test_another_choice_of_the_figure_starts_the_comparison_anew(make, tmp_path):
    make(tmp_path, max_epochs=2, figures=(0.9, 0.5), best_by="knn_auc").run()
    rest = make(tmp_path, best_by="accuracy")
    rest.run()
    assert rest.state.best["by"] == "accuracy"
    assert rest.state.best["epoch"] in (3, 4)


@pytest.mark.parametrize(("minutes", "expected"), [(0, 4), (1e-9, 12), (10, 4)])
def test_checkpoints_within_an_epoch_are_written_by_wall_time(make, tmp_path, monkeypatch, minutes, expected):
    saved = []
    trainer = make(tmp_path, checkpoint_minutes=minutes, keep=99)
    trainer.run()
    saved = names(tmp_path)
    assert len(saved) == expected
    assert saved == sorted(saved, key=lambda name: [int(part) for part in name[:-3].split("_")[1::2]])


def test_the_clock_starts_with_the_run_and_again_with_each_checkpoint(make, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trainer = make(tmp_path, checkpoint_minutes=2, keep=99, before_saving=lambda engine: now.append(now.pop() + 50))
    now[0] += 10_000  # building the cache takes long
    trainer.run()
    assert names(tmp_path) == [
        end_of(epoch) for epoch in (1, 2, 3, 4)
    ]  # each epoch takes 150 s, 100 s to its last step
    slow = make(tmp_path / "slow", checkpoint_minutes=2, keep=99, before_saving=lambda e: now.append(now.pop() + 70))
    slow.run()
    assert names(tmp_path / "slow") == sorted(
        [end_of(epoch) for epoch in (1, 2, 3, 4)] + [f"epoch_{epoch:05d}_batch_000002.pt" for epoch in (1, 2, 3, 4)]
    )


def test_what_killed_runs_left_half_written_is_removed(make, tmp_path):
    make(tmp_path, max_epochs=1).run()
    left = [tmp_path / "checkpoints" / ".epoch_00002_batch_000001.pt.ab12.tmp", tmp_path / ".encoder.pt.cd34.tmp"]
    other = tmp_path / ".notes.tmp"
    for path in (*left, other):
        path.write_bytes(b"half")
    make(tmp_path, max_epochs=2).run()
    assert not any(path.exists() for path in left)
    assert other.exists()


@contextmanager
def no_file_above(limit):
    """As a full disk: writing more than so many bytes into a file fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_a_checkpoint_but_not_the_run_nor_the_older_ones(make, tmp_path, caplog):
    trainer, full, seen = make(tmp_path), no_file_above(8000), []

    @trainer.on("ITERATION_STARTED")
    def _fill(engine):
        if engine.state.iteration == 5:
            full.__enter__()
        if engine.state.iteration == 9:
            seen.extend(path.name for path in (tmp_path / "checkpoints").iterdir())
            full.__exit__(None, None, None)

    trainer.run()
    assert sorted(seen) == [end_of(1), "epoch_00002_batch_000001.pt"]  # no half file among them
    assert names(tmp_path) == ["epoch_00004_batch_000002.pt", end_of(4)]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 4  # steps 5, 7, 8 and the end of epoch 2; its encoder is small enough
    for warning in warnings:
        assert "File too large" in warning
        assert f"bytes needed in {tmp_path}; training goes on" in warning
        assert "\n" not in warning


def test_a_disk_that_stays_full_is_a_one_line_error_at_the_end_and_the_run_can_go_on(make, tmp_path):
    make(tmp_path, max_epochs=2).run()
    before = names(tmp_path)
    with no_file_above(8000), pytest.raises(CxrPairError, match="the end of the run could not be saved") as caught:
        make(tmp_path).run()
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == before
    rest = make(tmp_path)
    rest.run()
    whole = make(tmp_path / "whole")
    whole.run()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(rest.network.state_dict()[name], value), name


def test_an_encoder_that_could_not_be_written_is_not_the_best_one(make, tmp_path):
    trainer = make(tmp_path, figures=(0.5, 0.9, 0.7, 0.6), best_by="knn_auc", checkpoint_minutes=0)
    full = no_file_above(10)

    @trainer.on("EPOCH_STARTED")
    def _fill(engine):
        if engine.state.epoch == 2:
            full.__enter__()
        if engine.state.epoch == 3:
            full.__exit__(None, None, None)

    trainer.run()
    assert trainer.state.best["epoch"] == 3
    assert json.loads((tmp_path / "encoder.json").read_text())["training"]["epoch"] == 3


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_says_how_many_bytes_are_missing(make, small_disk, tmp_path, caplog):
    trainer = make(small_disk / "run", keep=1, checkpoint_minutes=0)
    filler = small_disk / "filler"

    @trainer.on("EPOCH_STARTED")
    def _fill(engine):
        if engine.state.epoch == 2:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1024))
        if engine.state.epoch == 3:
            filler.unlink()

    trainer.run()
    assert names(small_disk / "run") == [end_of(4)]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings
    assert all("No space left on device: " in w and "bytes more needed in" in w for w in warnings)
    assert not list((small_disk / "run").rglob("*.tmp"))


@pytest.mark.parametrize("resume", [True, False])
def test_checkpoints_that_cannot_be_written_are_an_error_before_the_first_step(make, tmp_path, resume):
    (tmp_path / "checkpoints").write_text("a file")
    trainer = make(tmp_path, resume=resume)
    with pytest.raises(CxrPairError, match=r"cannot write checkpoints to .*/checkpoints: File exists"):
        trainer.run()
    assert trainer.state.iteration == 0


def test_a_folder_in_the_encoders_place_is_an_error_of_a_resumed_run_and_moved_aside_by_a_new_one(make, tmp_path):
    make(tmp_path, max_epochs=1).run()
    for name in ("encoder.json", "encoder.pt"):
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
        trainer = make(tmp_path)
        with pytest.raises(CxrPairError, match=f"{name} is a folder"):
            trainer.run()
        assert trainer.state.iteration == 3  # of the checkpoint: no step was made
    make(tmp_path, max_epochs=1, resume=False).run()
    assert (tmp_path / "encoder.1.pt").is_dir()
    assert (tmp_path / "encoder.pt").is_file()


def test_what_cannot_be_renamed_is_an_error_in_one_line(make, tmp_path, monkeypatch):
    make(tmp_path, max_epochs=1).run()

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    trainer = make(tmp_path, resume=False)
    monkeypatch.setattr("pathlib.Path.rename", refuse)
    with pytest.raises(CxrPairError, match=r"cannot rename .*/encoder\.pt to encoder\.1\.pt: Read-only file system$"):
        trainer.run()


def test_bytes_are_asked_for_only_where_the_disk_is_full(make, tmp_path, caplog):
    """The folder of the checkpoints becomes a file within the run."""
    trainer = make(tmp_path, max_epochs=1, checkpoint_minutes=0)

    @trainer.on("ITERATION_STARTED")
    def _spoil(engine):
        if engine.state.iteration == 2:
            (tmp_path / "checkpoints").rmdir()
            (tmp_path / "checkpoints").write_text("")

    with pytest.raises(CxrPairError, match=r"could not be saved: cannot write .*: File exists; mend that, start it"):
        trainer.run()
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "training goes on" in warnings[0]
    assert "bytes needed" not in warnings[0]
    assert "make room" not in warnings[0]


@pytest.mark.parametrize("card", [[], {"training": []}, {"training": {"chosen_by": "knn_auc", "last_epoch": []}}, 3])
def test_a_card_that_is_none_of_ours_does_not_stop_a_resumed_run(make, tmp_path, card):
    settings = {"figures": (0.5, 0.9, 0.7, 0.8), "best_by": "knn_auc"}
    make(tmp_path, max_epochs=1, **settings).run()
    (tmp_path / "encoder.json").write_text(json.dumps(card))
    rest = make(tmp_path, **settings)
    rest.run()
    assert rest.state.best == {"by": "knn_auc", "value": 0.9, "epoch": 2}


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (
            {"training": {"clip_grad_norm": float("inf")}},
            r"^training#clip_grad_norm is inf, which encoder\.json cannot",
        ),
        ({"sizes": [1, NAN]}, r"^sizes is \[1, nan\]"),
        ({"a": {"b": {"c": {1}}}}, r"^a#b#c is \{1\}"),
    ],
)
def test_a_card_that_json_cannot_hold_is_an_error_by_place_before_the_run(tmp_path, card, said):
    with pytest.raises(CxrPairError, match=said) as caught:
        SaveRun(output_dir=tmp_path, states={}, encoder=torch.nn.Linear(1, 1), card=card)
    assert "\n" not in str(caught.value)


def test_a_setting_out_of_range_is_an_error_by_name(tmp_path):
    parts = {"output_dir": tmp_path, "states": {}, "encoder": torch.nn.Linear(1, 1), "card": {}}
    with pytest.raises(CxrPairError, match="keep is 0"):
        SaveRun(**parts, keep=0)
    for minutes in (-1, NAN, True):
        with pytest.raises(CxrPairError, match="checkpoint_minutes is"):
            SaveRun(**parts, checkpoint_minutes=minutes)
