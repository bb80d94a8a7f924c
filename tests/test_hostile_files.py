"""Files that would run something when they are loaded do nothing."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from monai_cxrpair.cohort.files import as_cell
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.contrast import build_encoder, load_weights
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.classifier import Classifier, load_classifier
from monai_cxrpair.imaging import read_radiograph


class Bomb:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place / "ran"),)


@pytest.fixture
def bomb(tmp_path):
    torch.save({"network": Bomb(tmp_path)}, tmp_path / "bomb.pt")
    yield tmp_path / "bomb.pt"
    assert not (tmp_path / "ran").exists()


def test_the_bomb_is_one(tmp_path):
    torch.save(Bomb(tmp_path), tmp_path / "bomb.pt")
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_weights_of_an_encoder_and_of_a_classifier(bomb):
    encoder = build_encoder("resnet18")
    with pytest.raises(CxrPairError, match=r"bomb\.pt"):
        load_weights(encoder, str(bomb))
    with pytest.raises(CxrPairError, match=r"bomb\.pt"):
        load_classifier(Classifier(encoder, features=512), bomb)


def test_arrays_of_objects_are_no_radiograph(tmp_path):
    for name in ("x.npy", "x.npz", "x.png", "x.dcm"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, np.array([Bomb(tmp_path)], dtype=object), allow_pickle=True)
        with pytest.raises(CxrPairError):
            read_radiograph(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_that_a_spreadsheet_would_run_is_the_same_file_and_runs_nothing(tmp_path, name):
    assert as_cell(name) == f"./{name}"
    assert as_cell("a/=1") == "a/=1"
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / f"{name}.dcm").write_bytes(b"no DICOM")
    with pytest.raises(CxrPairError, match="no radiograph"):
        index_source(folder, out=tmp_path / "c.parquet")
    rejects = pd.read_csv(tmp_path / "c.rejects.csv", lineterminator="\n")
    assert rejects["path"].iloc[0].startswith("./")
    assert (folder / rejects["path"].iloc[0]).exists()
