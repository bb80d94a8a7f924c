"""The kNN probe of the training: whom it asks, when, and that the training goes on as if it had not been asked."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import roc_auc_score

from monai_cxrpair.cohort import Cohort, hold_out_validation, split_patients
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation import KnnProbe, knn_cohort
from monai_cxrpair.evaluation.knn import knn_scores


def cohort_of(patients=60, *, labels=None):
    """Three radiographs of each patient; the finding is there in every other patient, unknown or uncertain in some."""
    table = pd.DataFrame({"patient_id": [f"p{row // 3}" for row in range(3 * patients)]}, dtype="str")
    table["image_id"] = table["study_id"] = table["path"] = [f"i{row}" for row in range(3 * patients)]
    values = np.arange(3 * patients) // 3 % 2.0
    values[::10], values[5::10] = np.nan, -1
    table["effusion"] = values if labels is None else labels
    return Cohort(table, root=Path(), findings=["effusion"], source="table")


def split_of(cohort, fraction=0.3):
    return hold_out_validation(cohort, split_patients(cohort, test_fraction=0.3), fraction=fraction, seed=0)


def chosen(cohort, split, *, at_most=2000, finding="effusion"):
    return knn_cohort(cohort, split, finding=finding, at_most=at_most, seed=0)


class Pixels:
    """Stands for a `RadiographCacheDataset`: radiographs whose brightness follows the label, with noise."""

    def __init__(self, cohort, signal=40):
        self.cohort = cohort
        rng = np.random.default_rng(0)
        labels = np.nan_to_num(cohort.labels("effusion"))
        self.images = rng.integers(0, 200, (len(cohort), 1, 8, 8)) + (signal * labels).astype(int)[:, None, None, None]

    def __len__(self):
        return len(self.cohort)

    def __getitems__(self, rows):
        return {"image": self.images[list(rows)].astype(np.uint8), "row": np.asarray(rows)}


class Encoder(torch.nn.Module):
    def __init__(self, bias=0.0):
        super().__init__()
        self.norm, self.dropout = torch.nn.BatchNorm2d(1), torch.nn.Dropout()
        self.bias = torch.nn.Parameter(torch.tensor(bias))

    def forward(self, x):
        x = self.dropout(self.norm(x)).flatten(1)
        return torch.stack([x.mean(1) + self.bias, x.std(1)], dim=1)


def probe_of(cohort, split, encoder=None, **settings):
    return KnnProbe(
        dataset=Pixels(chosen(cohort, split)), split=split, encoder=encoder or Encoder(), normalisation=(0.4, 0.2),
        finding="effusion", **settings,
    )  # fmt: skip


def run(probe, *, epochs):
    engine, found = Engine(lambda engine, batch: None), []
    probe.attach(engine)
    engine.add_event_handler("EPOCH_COMPLETED", lambda e: found.append(e.state.metrics.get("knn_auc")))
    engine.run([0], max_epochs=epochs)
    return found


def test_references_are_of_the_pre_training_side_queries_of_the_validation_side_and_nobody_is_tested():
    cohort = cohort_of()
    split = split_of(cohort)
    probe = probe_of(cohort, split)
    table = probe.dataset.cohort.table
    assert not set(table["patient_id"]) & set(split.test_patients)
    assert set(table["patient_id"][probe.references]) == set(split.train_patients)
    assert set(table["patient_id"][probe.queries]) == set(split.validation_patients)
    assert set(probe.labels) == {0.0, 1.0}
    labels = cohort.labels("effusion")
    assert len(table) == np.isin(labels[[*split.train_rows, *split.validation_rows]], (0, 1)).sum()


def test_a_bounded_number_is_drawn_patient_by_patient_the_same_each_time():
    cohort = cohort_of(patients=200)
    split = split_of(cohort)
    small = chosen(cohort, split, at_most=40).table
    for side in (split.train_patients, split.validation_patients):
        part = small[small["patient_id"].isin(side)]
        assert len(part) == 40
        assert part["patient_id"].nunique() <= 20  # of about 2.4 labelled radiographs each, not 40 single ones
    pd.testing.assert_frame_equal(small, chosen(cohort, split, at_most=40).table)


def test_the_figure_is_the_auc_of_the_knn_classifier_on_what_the_encoder_yields_in_eval_mode():
    cohort = cohort_of()
    probe = probe_of(cohort, split_of(cohort), neighbours=7, temperature=0.5)
    encoder = Encoder().eval()
    with torch.no_grad():
        views = (torch.from_numpy(probe.dataset.__getitems__(range(len(probe.dataset)))["image"]) / 255 - 0.4) / 0.2
        features = encoder(views).numpy()
    references, queries, labels = probe.references, probe.queries, probe.labels
    scores = knn_scores(features[references], labels[references], features[queries], neighbours=7, temperature=0.5)
    expected = roc_auc_score(labels[queries], scores)
    assert expected > 0.6
    for batch_size in (64, 5):
        probe.batch_size = batch_size
        assert run(probe, epochs=1) == [pytest.approx(expected, abs=1e-6)]


def test_it_is_measured_every_few_epochs_and_after_the_last_and_is_absent_in_between():
    cohort = cohort_of()
    measured = run(probe_of(cohort, split_of(cohort), every=3), epochs=5)
    assert [value is not None for value in measured] == [False, False, True, False, True]


def test_nothing_of_the_training_is_touched():
    cohort, encoder = cohort_of(), Encoder()
    encoder.norm.eval()  # a frozen layer stays as it is, the others in training mode
    encoder.bias.grad = torch.tensor(2.0)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(probe_of(cohort, split_of(cohort), encoder), epochs=2)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(torch.rand(3), expected)
    assert (np.random.get_state()[1] == numbers).all()
    assert [module.training for module in encoder.modules()] == [True, False, True]
    assert encoder.bias.grad == 2.0
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("bias", [float("nan"), float("inf")])
def test_an_encoder_that_yields_no_numbers_gives_no_figure_and_a_warning(bias, caplog):
    cohort = cohort_of()
    assert run(probe_of(cohort, split_of(cohort), Encoder(bias)), epochs=1) == [None]
    assert "epoch 1 has no knn_auc" in caplog.text


@pytest.mark.parametrize("side", ["train", "validation"])
@pytest.mark.parametrize("present", [0, 4, None])
def test_too_few_of_a_class_are_an_error_that_counts_them_and_says_what_to_change(side, present):
    cohort = cohort_of()
    split = split_of(cohort)
    rows = getattr(split, f"{side}_rows")
    labels = np.arange(len(cohort)) % 2.0
    labels[rows] = 1.0 if present is None else 0.0
    if present:
        labels[rows[:present]] = 1.0
    counts = f"{len(rows)} labelled radiographs with it and 0" if present is None else f"{present} labelled .* and"
    name = "pre-training" if side == "train" else side
    with pytest.raises(CxrPairError, match=f"knn_finding is effusion: the {name} side has {counts}") as caught:
        chosen(cohort_of(labels=labels), split)
    assert "validation_fraction" in str(caught.value)
    assert "knn_finding null" in str(caught.value)


def test_classes_that_are_lost_since_radiographs_cannot_be_read_are_an_error_too():
    cohort = cohort_of()
    split = split_of(cohort)
    whole = chosen(cohort, split)
    lost = whole.table["patient_id"].isin(split.validation_patients) & (whole.table["effusion"] == 1)
    readable = SimpleNamespace(cohort=whole.take(np.flatnonzero(~lost.to_numpy(dtype=bool))))
    with pytest.raises(CxrPairError, match="the validation side has 0 labelled"):
        KnnProbe(dataset=readable, split=split, encoder=Encoder(), normalisation=(0.4, 0.2), finding="effusion")


def test_settings_out_of_range_are_named():
    cohort = cohort_of()
    split = split_of(cohort)
    for match, call in (
        ("knn_radiographs is 9", lambda: chosen(cohort, split, at_most=9)),
        ("finding is 'edema'", lambda: chosen(cohort, split, finding="edema")),
        ("nobody is kept for validation", lambda: chosen(cohort, split_patients(cohort, test_fraction=0.3))),
        ("knn_every is 0", lambda: probe_of(cohort, split, every=0)),
        ("knn_neighbours is 0: use a whole", lambda: probe_of(cohort, split, neighbours=0)),
        ("knn_neighbours is '20'", lambda: probe_of(cohort, split, neighbours="20")),
        ("knn_neighbours is True", lambda: probe_of(cohort, split, neighbours=True)),
        ("knn_temperature is 0: use a finite", lambda: probe_of(cohort, split, temperature=0)),
        ("knn_temperature is 'x'", lambda: probe_of(cohort, split, temperature="x")),
        ("knn_temperature is nan", lambda: probe_of(cohort, split, temperature=float("nan"))),
    ):
        with pytest.raises(CxrPairError, match=match):
            call()


def one_of_two(rank, folder):
    """A process whose encoder yields numbers of its own: only the first one's count."""
    torch.set_num_threads(1)  # threads do not survive a fork
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    cohort = cohort_of()
    encoder = Encoder() if rank == 0 else Encoder(float("nan"))
    found = run(probe_of(cohort, split_of(cohort), encoder, every=2), epochs=3)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_figure_of_the_first_one(tmp_path):
    # Forked, since importing everything twice takes far longer than the test.
    torch.multiprocessing.start_processes(one_of_two, args=(tmp_path,), nprocs=2, start_method="fork")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    cohort = cohort_of()
    assert first == second == run(probe_of(cohort, split_of(cohort), every=2), epochs=3)
    assert first[0] is None
    assert first[1] == first[2] > 0.5
