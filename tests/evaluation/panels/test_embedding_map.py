import dataclasses
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from report_page import read
from scipy.spatial.distance import cdist
from small_evaluation import evaluated_on, make_cohort, make_table, page_of, without_patient_ids

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.panels import embedding_map
from monai_cxrpair.evaluation.panels.embedding_map import make, shown_encoders, silhouette


def evaluation(*, patients=120, encoders=("same study",), aucs=None, strength=3.0):
    done = evaluated_on(make_cohort(make_table(patients)), cards={name: {} for name in encoders})
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(size=(len(done.cohort), 8)).astype(np.float32) for name in done.encoders}
    # The trained encoder knows the view and nothing of the finding.
    lateral = done.cohort.table["laterality"].to_numpy() == "lateral"
    for name in encoders:
        tables[name][:, 0] += strength * np.where(lateral, 1, -1)
    figures = {name: {"auc_mean": (aucs or {}).get(name, 0.5)} for name in done.encoders}
    linear = SimpleNamespace(encoders=figures, counts=done.linear.counts)
    return dataclasses.replace(done, embeddings=tables, linear=linear)


@pytest.fixture
def without_umap(monkeypatch):
    """Whatever is installed where the tests run."""
    monkeypatch.setitem(sys.modules, "umap", None)  # importing it fails
    monkeypatch.setattr(embedding_map, "find_spec", lambda name: None)


def mean_silhouette(points, values):
    """By its definition (Rousseeuw 1987): nearest other class against own, over all points."""
    distance = cdist(points, points, "cosine")
    found = []
    for row, value in enumerate(values):
        own = (values == value) & (np.arange(len(values)) != row)
        inside = distance[row, own].mean()
        outside = min(distance[row, values == other].mean() for other in set(values) - {value})
        found.append((outside - inside) / max(inside, outside))
    return np.mean(found)


@pytest.mark.usefixtures("without_umap")
def test_the_figures_are_those_of_unit_embeddings_of_the_test_side(tmp_path):
    done = evaluation()
    panel = make(done, tmp_path)
    test = done.split.test_rows
    points = done.embeddings["same study"][test].astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    found = panel.figures["encoders"]["same study"]
    np.testing.assert_allclose(found["explained"], (variances / variances.sum())[:2])
    side = done.cohort.table["laterality"].to_numpy()[test]
    assert found["silhouette"]["laterality"] == pytest.approx(mean_silhouette(points, side))
    labels = done.labels[test]
    certain = np.isin(labels, (0, 1))
    assert found["silhouette"]["finding"] == pytest.approx(mean_silhouette(points[certain], labels[certain]))
    assert found["silhouette"]["view_position"] is None  # all frontal ones are PA
    assert found["silhouette"]["laterality"] > 0.3 > abs(found["silhouette"]["finding"])
    blind = panel.figures["encoders"]["random weights"]["silhouette"]
    assert abs(blind["laterality"]) < 0.1
    assert panel.figures["radiographs"] == panel.figures["of"] == len(test)
    assert panel.figures["patients"] == done.cohort.table["patient_id"].iloc[test].nunique()


def test_a_class_of_fewer_than_ten_radiographs_has_no_silhouette():
    points = np.random.default_rng(0).normal(size=(60, 3))
    assert silhouette(points, np.repeat(["a", "b", ""], [9, 31, 20])) is None
    assert silhouette(points, np.repeat(["a", ""], [40, 20])) is None
    assert silhouette(points, np.repeat(["a", "b", ""], [10, 30, 20])) is not None


@pytest.mark.usefixtures("without_umap")
def test_a_large_test_side_is_sampled_by_patient_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_map, "MAX_RADIOGRAPHS", 40)
    done = evaluation()
    figures = make(done, tmp_path).figures
    assert 30 < figures["radiographs"] <= 40
    assert figures["of"] == len(done.split.test_rows)
    page = page_of(done, "embedding_map", make, tmp_path)
    assert f"sampled from {figures['of']}" in page
    assert figures == make(done, tmp_path).figures  # the same seed, the same sample


def test_the_reference_the_chosen_and_the_best_encoders_are_shown_in_the_order_of_the_page():
    names = ("a", "b", "c", "d", "e")
    done = evaluation(encoders=names, aucs={"a": 0.6, "b": 0.9, "c": 0.7, "d": 0.8, "e": 0.55, "random weights": 0.5})
    assert shown_encoders(done) == ["random weights", "b", "d", "e"]  # e is the chosen one
    assert shown_encoders(evaluation(encoders=("only",))) == ["random weights", "only"]


@pytest.mark.usefixtures("without_umap")
def test_the_page_says_how_to_read_the_map_and_every_figure_of_it(tmp_path):
    done = evaluation(encoders=("a", "b", "c", "d"), aucs={"a": 0.6, "b": 0.9, "c": 0.7, "d": 0.8})
    page = page_of(done, "embedding_map", make, tmp_path)
    text = " ".join(re.sub(r"<[^>]*>", "", page).split())
    assert "A map can mislead: the AUC counts." in text
    assert "PCA: the two directions" in text
    assert "Not drawn: a." in text
    found = make(done, tmp_path).figures["encoders"]["d"]
    assert f"{found['silhouette']['laterality']:+.3f}" in text
    assert f"{100 * found['explained'][0]:.1f}, {100 * found['explained'][1]:.1f}" in text
    assert 'src="data:image/svg+xml' in page
    assert (tmp_path / "embedding_map.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("without_umap")
def test_the_same_evaluation_gives_the_same_bytes(tmp_path):
    done = evaluation(patients=60)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make(done, tmp_path / folder)
    for name in ("embedding_map.png", "embedding_map.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_where_umap_is_installed_the_map_is_umaps_and_the_page_says_so(tmp_path, monkeypatch):
    asked = []

    class FakeUmap:
        def __init__(self, **settings):
            asked.append(settings)

        def fit_transform(self, points):
            return points[:, 2:4]

    module = ModuleType("umap")
    module.UMAP = FakeUmap
    monkeypatch.setitem(sys.modules, "umap", module)
    done = dataclasses.replace(evaluation(patients=60), seed=5)
    page = page_of(done, "embedding_map", make, tmp_path)
    assert "UMAP by cosine distance" in page
    assert "PCA: the two directions" not in page
    assert asked == [{"n_components": 2, "metric": "cosine", "random_state": 5, "n_jobs": 1}] * 2
    assert make(done, tmp_path).figures["method"] == "UMAP"


def test_a_broken_umap_is_reported_and_the_map_is_pca(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "umap", ModuleType("umap"))  # no UMAP inside
    monkeypatch.setattr(embedding_map, "find_spec", lambda name: object())
    assert make(evaluation(patients=60), tmp_path).figures["method"] == "PCA"
    assert "umap cannot be imported, the embedding map is PCA" in caplog.text


def test_too_few_radiographs_are_an_error_that_says_how_many_are_needed(tmp_path):
    done = evaluation(patients=60)
    done = dataclasses.replace(done, split=dataclasses.replace(done.split, test_rows=done.split.test_rows[:5]))
    with pytest.raises(CxrPairError, match="the test side has 5 radiographs, a map needs at least 20"):
        make(done, tmp_path)


def test_where_patients_are_not_known_the_panel_claims_nothing_about_them(tmp_path):
    done = evaluation()
    pages = [page_of(of, "embedding_map", make, tmp_path) for of in (done, without_patient_ids(done))]
    known, unknown = (read(page)[1] for page in pages)
    assert re.search(r"radiographs of \d+ patients", known)
    assert not re.search(r"radiographs of \d+ patients", unknown)
