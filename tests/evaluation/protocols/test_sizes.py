from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.draw_files import file_draws
from monai_cxrpair.evaluation.protocols.sizes import LabelSize, label_sizes, make_draws, studies_in


def side(n=600, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(float)
    labels[rng.random(n) < 0.1] = np.nan
    return labels, rng.integers(0, 200, n), rng.integers(0, 2, n)


def test_sizes_are_named_by_what_was_asked_for():
    assert [size.key for size in label_sizes([0.001, 0.01, 1])] == ["0.001", "0.01", "1"]
    assert [size.key for size in label_sizes(0.01, [50, 100])] == ["50 studies", "100 studies"]
    assert [size.key for size in label_sizes(0.01, 100)] == ["100 studies"]
    assert [size.key for size in label_sizes(0.01, files=True)] == ["files"]


@pytest.mark.parametrize("bad", [0, 1.5, "0.1", True, [], [0.1, 0.1], [0.1, None]])
def test_a_size_that_is_none_is_an_error(bad):
    with pytest.raises(CxrPairError, match="label_fraction"):
        label_sizes(bad)
    with pytest.raises(CxrPairError, match="label_studies"):
        label_sizes(0.1, [10, 1.5])


@pytest.mark.parametrize("count", [7, 50, 123])
def test_a_number_of_studies_draws_exactly_so_many(count):
    labels, patients, studies = side()
    drawn = make_draws(LabelSize(key="n", studies=count), labels, patients, studies, by="patient", draws=3, seed=1)
    for rows in drawn:
        assert len({(patients[row], studies[row]) for row in rows}) == count
    assert studies_in(drawn.rows, patients, studies) == count
    with pytest.raises(CxrPairError, match=r"label_studies is 5000: the training side has \d+ labelled studies"):
        make_draws(LabelSize(key="n", studies=5000), labels, patients, studies, by="patient", draws=1, seed=0)


def test_rows_drawn_one_by_one_are_independent_of_their_patient():
    labels, patients, studies = side(n=4000)
    drawn = make_draws(LabelSize(key="f", fraction=0.25), labels, patients, studies, by="radiograph", draws=20, seed=0)
    usable = np.isin(labels, (0, 1)).sum()
    sizes = [len(rows) for rows in drawn]
    # Binomial: the mean of 20 draws within four standard errors, and draws of different sizes.
    assert abs(np.mean(sizes) - 0.25 * usable) < 4 * np.sqrt(0.25 * 0.75 * usable / 20)
    assert len(set(sizes)) > 1
    whole = np.mean([np.isin(np.flatnonzero((patients == 3) & ~np.isnan(labels)), rows).all() for rows in drawn])
    assert whole < 0.2  # by patient, all rows of a drawn patient would be there
    for rows in drawn:
        assert np.isin(labels[rows], (0, 1)).all()
    again = make_draws(LabelSize(key="f", fraction=0.25), labels, patients, studies, by="radiograph", draws=20, seed=0)
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))
    with pytest.raises(CxrPairError, match="draw_by is 'row': use patient or radiograph"):
        make_draws(LabelSize(key="f", fraction=0.25), labels, patients, studies, by="row", draws=1, seed=0)
    with pytest.raises(CxrPairError, match="too small for 2 radiographs of each class"):
        make_draws(LabelSize(key="f", fraction=1e-7), labels, patients, studies, by="radiograph", draws=1, seed=0)


def cohort(paths, ids=None):
    table = pd.DataFrame({"path": paths}, dtype="str")
    table["image_id"] = ids or [f"i{number}" for number in range(len(paths))]
    table["patient_id"] = [f"p{number // 2}" for number in range(len(paths))]
    table["study_id"] = table["patient_id"]
    return Cohort(table, root=Path(), findings=[], source="table")


PATHS = [f"train/patient{number:05}/study1/view1_frontal.jpg" for number in range(8)]
LABELS = np.array([1, 0, 1, 0, np.nan, -1, 1, 0])
TRAIN = np.array([5, 4, 3, 2, 1, 0])


def write(path, paths, column="Path"):
    pd.DataFrame({column: paths, "Pleural Effusion": 0}).to_csv(path)  # with an index column, as the paper's
    return str(path)


def test_the_papers_split_files_select_rows_whatever_folders_stand_in_front(tmp_path):
    front = "/deep/group/CheXpert/CheXpert-v1.0-small/"
    missing = front + "train/patient64540/study1/view1_frontal.jpg"
    one = write(tmp_path / "it0.csv", [front + path for path in PATHS[:7]] + [missing, front + PATHS[0]])
    two = write(tmp_path / "it1.csv", [path.removeprefix("train/") for path in PATHS[:4]], column="path")
    drawn, counts = file_draws([one, two], cohort(PATHS), LABELS, TRAIN)
    assert [set(TRAIN[rows]) for rows in drawn] == [{0, 1, 2, 3}] * 2
    assert counts[0] == {"rows": 9, "matched": 7, "other_side": 1, "unlabelled": 2, "used": 4}
    assert counts[1] == {"rows": 4, "matched": 4, "other_side": 0, "unlabelled": 0, "used": 4}
    assert (drawn.source, drawn.labelled_studies) == ("files", None)


def test_an_image_id_of_chexpert_matches_where_the_folders_differ(tmp_path):
    ids = [f"patient{number:05}/study1/view1_frontal" for number in range(8)]
    file = write(tmp_path / "draw.csv", ["CheXpert-v1.0-small/" + path for path in PATHS[:4]])
    full = ["CheXpert-v1.0/" + path for path in PATHS]
    drawn, _ = file_draws([file], cohort(full, ids), LABELS, TRAIN)
    assert set(TRAIN[drawn[0]]) == {0, 1, 2, 3}


def test_a_view_of_another_patient_is_never_taken_for_a_match(tmp_path):
    file = write(tmp_path / "draw.csv", [path.replace("/patient0000", "/patient9990") for path in PATHS])
    with pytest.raises(CxrPairError, match=r"none of the 8 paths of .*draw\.csv is in the cohort"):
        file_draws([file], cohort(PATHS), LABELS, TRAIN)
    # An ending that several radiographs have says nothing.
    file = write(tmp_path / "draw.csv", ["view1_frontal.jpg"] * 4)
    with pytest.raises(CxrPairError, match="none of the 4 paths"):
        file_draws([file], cohort(PATHS), LABELS, TRAIN)


def test_a_file_without_paths_or_with_one_class_is_an_error(tmp_path):
    with pytest.raises(CxrPairError, match="has no column Path; it has: "):
        file_draws([write(tmp_path / "a.csv", PATHS, column="File")], cohort(PATHS), LABELS, TRAIN)
    with pytest.raises(CxrPairError, match=r"leaves 2 radiographs of the training side with the finding and 0 without"):
        file_draws([write(tmp_path / "b.csv", [PATHS[0], PATHS[2], PATHS[6]])], cohort(PATHS), LABELS, TRAIN)
