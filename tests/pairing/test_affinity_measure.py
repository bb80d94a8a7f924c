"""Tables of affinity measured from labels, and from an embedding without labels."""

import itertools

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import table_from_embeddings, table_from_labels
from monai_cxrpair.pairing.affinity_measure import nearest_of_other_patients, overlap


def cohort_of(tmp_path, *, patients=60, dates=True, seed=0, largest=6):
    """Patients with up to six studies of one or two radiographs; a hidden state that changes with time."""
    rng = np.random.default_rng(seed)
    rows, state_rows = [], []
    for p in range(patients):
        state, day = rng.random() < 0.4, 0.0
        for s in range(rng.integers(1, largest + 1)):
            gap = float(rng.choice([1, 10, 100])) if s else 0.0
            day += gap
            if rng.random() < 1 - np.exp(-gap / 40):
                state = rng.random() < 0.4
            when = pd.Timestamp("2000-01-01") + pd.Timedelta(days=day) if dates else pd.NaT
            label = rng.choice([float(state), np.nan if not state else 1.0, -1.0], p=[0.7, 0.2, 0.1])
            for i in range(rng.integers(1, 3)):
                rows.append((f"p{p}", f"p{p}s{s}", f"p{p}s{s}i{i}", when, label))
                state_rows.append(state)
    table = pd.DataFrame(rows, columns=["patient_id", "study_id", "image_id", "study_datetime", "effusion"])
    table["path"] = table["image_id"]
    return Cohort(table, root=tmp_path, findings=["effusion"], source="test"), np.array(state_rows)


def brute_force(cohort, edges, unit):
    """Every pair of studies of every patient, one after the other."""
    studies = cohort.table.drop_duplicates("study_id")
    studies = studies[studies["effusion"] != -1]
    present = studies["effusion"] == 1
    p = present.mean()
    chance = p**2 + (1 - p) ** 2
    agreed = {edge: [] for edge in edges}
    for _, group in studies.groupby("patient_id"):
        for (_, a), (_, b) in itertools.combinations(group.iterrows(), 2):
            apart = abs((a["study_datetime"] - b["study_datetime"]).days) if unit == "days" else None
            apart = abs(a["study_order"] - b["study_order"]) if apart is None else apart
            agreed[max(e for e in edges if e <= apart)].append((a["effusion"] == 1) == (b["effusion"] == 1))
    return [float(np.clip((np.mean(v) - chance) / (1 - chance), 0, 1)) for v in agreed.values()]


@pytest.mark.parametrize("dates", [True, False])
def test_a_table_from_labels_is_the_agreement_of_all_pairs_corrected_for_chance(tmp_path, dates):
    cohort, _ = cohort_of(tmp_path, dates=dates)
    edges = (0, 5, 50) if dates else (0, 2, 3)
    measured = table_from_labels(cohort, "effusion", day_edges=edges, study_edges=edges, min_pairs=1)
    unit, other = ("days", "studies") if dates else ("studies", "days")
    assert [edge for edge, _ in getattr(measured, unit)] == list(edges)
    assert [value for _, value in getattr(measured, unit)] == pytest.approx(brute_force(cohort, edges, unit), abs=1e-4)
    assert getattr(measured, other) == ((0.0, 0.0),)  # nothing was measured there
    assert "effusion" in measured.source


def test_a_bin_without_enough_pairs_takes_the_value_of_the_one_before(tmp_path):
    cohort, _ = cohort_of(tmp_path)
    full = table_from_labels(cohort, "effusion", day_edges=(0, 50), min_pairs=1).days
    sparse = table_from_labels(cohort, "effusion", day_edges=(0, 50, 50_000), min_pairs=1).days
    assert sparse[:2] == full
    assert sparse[2] == (50_000, full[1][1])


@pytest.mark.data
def test_on_chexpert_neighbouring_studies_agree_on_effusion_as_published_in_the_defaults(shared_data, tmp_path):
    """0.44, 0.32 and 0.28 at 1, 2 and 3 studies apart were counted by other code, on pairs of the same lags."""
    index_source(shared_data / "metadata" / "chexpert_train.csv.gz", out=tmp_path / "chexpert.parquet",
                 root=tmp_path, file_format="chexpert")  # fmt: skip
    cohort = Cohort.read(tmp_path / "chexpert.parquet")
    table = dict(table_from_labels(cohort, "pleural_effusion", study_edges=(0, 1, 2, 3, 4)).studies)
    assert [table[lag] for lag in (1.0, 2.0, 3.0)] == pytest.approx([0.44, 0.32, 0.28], abs=0.02)


def test_an_embedding_that_shows_the_state_gives_nearly_the_table_that_labels_of_the_state_give(tmp_path):
    cohort, state = cohort_of(tmp_path, patients=300)
    rng = np.random.default_rng(1)
    shown = np.stack([3.0 * state, np.full(len(state), 2.0), np.zeros(len(state))], axis=1)
    shown += 0.3 * rng.normal(size=shown.shape)
    edges = {"day_edges": (0, 5, 50), "min_pairs": 20}
    unlabelled = [value for _, value in table_from_embeddings(cohort, shown, neighbours=200, **edges).days]
    table = cohort.table
    table["effusion"] = state.astype(float)
    known = Cohort(table, root=tmp_path, findings=["effusion"], source="test")
    truth = [value for _, value in table_from_labels(known, "effusion", **edges).days]
    assert truth[0] > 0.9 > truth[1] > 0.5 > truth[2]  # it falls with time, as it was made to
    assert unlabelled == pytest.approx(truth, abs=0.15)


def test_an_embedding_in_which_each_study_has_a_look_of_its_own_says_that_nothing_stays(tmp_path):
    cohort, _ = cohort_of(tmp_path, patients=300)
    rng = np.random.default_rng(1)
    study = cohort.codes("study_id")
    looks = rng.normal(size=(study.max() + 1, 3))[study] + 0.05 * rng.normal(size=(len(study), 3))
    values = [value for _, value in table_from_embeddings(cohort, looks, day_edges=(0, 5, 50), min_pairs=20).days]
    assert max(values) < 0.15


def test_neighbours_are_the_nearest_of_other_patients_and_their_overlap_is_counted():
    rng = np.random.default_rng(0)
    embeddings, patient = rng.normal(size=(40, 4)), rng.integers(0, 8, 40)
    nearest = nearest_of_other_patients(embeddings, patient, 5)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for i in range(40):
        others = [j for j in range(40) if patient[j] != patient[i]]
        assert set(nearest[i]) == set(sorted(others, key=lambda j: -unit[i] @ unit[j])[:5])
    i, j = rng.integers(0, 40, (2, 30))
    expected = [len(set(nearest[a]) & set(nearest[b])) / 5 for a, b in zip(i, j, strict=True)]
    np.testing.assert_allclose(overlap(nearest, i, j), expected)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"finding": "oedema"}, "no finding 'oedema'"), ({"min_pairs": 10**6}, "no time bin has 1000000 pairs"),
     ({"day_edges": (1, 2)}, "days: the lower edges must grow from 0")],
)  # fmt: skip
def test_what_cannot_be_measured_from_labels_is_one_line(tmp_path, settings, named):
    cohort, _ = cohort_of(tmp_path)
    with pytest.raises(CxrPairError, match=named):
        table_from_labels(cohort, **{"finding": "effusion", **settings})
    table = cohort.table
    table["effusion"] = 1.0
    certain = Cohort(table, root=tmp_path, findings=["effusion"], source="test")
    with pytest.raises(CxrPairError, match="all labelled studies agree"):
        table_from_labels(certain, "effusion")


def test_what_cannot_be_measured_from_an_embedding_is_one_line(tmp_path):
    cohort, _ = cohort_of(tmp_path)
    noise = np.random.default_rng(0).normal(size=(len(cohort), 8))
    with pytest.raises(CxrPairError, match="one row for each"):
        table_from_embeddings(cohort, noise[1:])
    with pytest.raises(CxrPairError, match="neighbours is 5000"):
        table_from_embeddings(cohort, noise, neighbours=5000)
    with pytest.raises(CxrPairError, match=r"no nearer than any two|no time bin"):
        table_from_embeddings(cohort, np.ones((len(cohort), 8)), min_pairs=10**6)
