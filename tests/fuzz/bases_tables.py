"""Tables, cohorts and settings to be mutated."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
from fuzz_base import PROJECT, Base
from mutate_archives import pack_zip

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.cohort.split.make import make_split_file
from monai_cxrpair.cohort.split.near_duplicates import find_links


def tables(folder: Path) -> Iterator[Base]:
    own = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(12)],
            "patient_id": [f"p{n // 3}" for n in range(12)],
            "study_id": [f"s{n // 2}" for n in range(12)],
            "path": [f"images/{n}.png" for n in range(12)],
            "laterality": ["frontal", "lateral", ""] * 4,
            "view_position": ["PA", "LL", "AP"] * 4,
            "age": ["61", "018M", "", "7.5"] * 3,
            "sex": ["M", "F", "", "O"] * 3,
            "study_datetime": [f"2024-01-{n + 1:02d} 10:00" for n in range(12)],
            "pleural_effusion": ["1", "0", "-1", ""] * 3,
        }
    )
    text = own.to_csv(index=False).encode()
    yield Base("table", "table.csv", text)
    yield Base("table", "table.tsv", own.to_csv(index=False, sep="\t").encode())
    yield Base("table.gz", "table.csv.gz", gzip.compress(text, mtime=0))
    yield Base("xlsx", "table.xlsx", _sheet(own))
    typed = own.assign(age=1.5, frame=[0, None] * 6, pleural_effusion=[1, None] * 6)
    yield Base("parquet", "table.parquet", typed.to_parquet(index=False))
    for name, published in _published().items():
        yield Base("table", f"{name}.csv", published.encode())
    labels = own[["study_id"]].drop_duplicates().assign(effusion=["1", "0", "", "-1", "0", "1"], names="Effusion|Mass")
    yield Base("labels", "labels.csv", labels.to_csv(index=False).encode())
    yield Base("labels", "images.csv", own[["image_id", "pleural_effusion"]].to_csv(index=False).encode())
    (folder / "table.csv").write_bytes(text)
    index_source(folder / "table.csv", out=folder / "cohort.parquet")
    table = Cohort.read(folder / "cohort.parquet").table.assign(
        perceptual_hash=[sha512(b"%d" % n).hexdigest() + "0" * 16 for n in range(12)]
    )
    cohort = Cohort(table, root=Path("/radiographs"), findings=["pleural_effusion"], source="table")
    cohort.write(folder / "cohort.parquet")
    yield Base("cohort", "cohort.parquet", (folder / "cohort.parquet").read_bytes(), 3.0)
    sides = np.array([0] * 6 + [1] * 3 + [2] * 3)
    content = make_split_file(cohort, find_links(cohort), sides, method={"seed": 1})
    content["label_draws"] = [{"finding": "pleural_effusion", "fraction": 0.5, "seed": 1, "image_ids": [["i0", "i1"]]}]
    yield Base("split", "split.json", json.dumps(content).encode())
    yield from _settings()


def _settings() -> Iterator[Base]:
    for path in sorted((PROJECT / "configs").rglob("*.yaml")):
        kind = "sweep" if path.parent.name == "experiments" else "overlay"
        if kind == "sweep" or path.parent.name == "pairing":
            yield Base(kind, path.name, path.read_bytes())
    affinity = {"days": [[0, 1.0], [30, 0.5]], "studies": [[0, 1.0], [1, 0.2]], "source": "x"}
    yield Base("affinity", "affinity.json", json.dumps(affinity).encode())
    encoder = {
        "format": "cxrpair-encoder/1", "encoder": "resnet18", "in_channels": 1,
        "preprocessing": {"image_size": 32, "mean": 0.5, "std": 0.25},
        "cohort": {"fingerprint": "0" * 64, "radiographs": 12, "test_hash": "1" * 64},
        "training": {"epochs": 2, "epoch": 2, "chosen_by": "last epoch", "last_epoch": {"loss": 1.0}},
    }  # fmt: skip
    yield Base("card", "encoder.json", json.dumps(encoder).encode())
    classifier = {
        "format": "cxrpair-classifier/1", "finding": "pleural_effusion", "encoder_card": encoder,
        "operating_point": {"threshold": 0.4, "rule": "Youden"}, "calibration": {"slope": 1.0, "intercept": 0.0},
    }  # fmt: skip
    yield Base("card", "model.json", json.dumps(classifier).encode())
    yield Base("accessions", "list.txt", b"AccessionNumber\n00123\n00124\n")


def _sheet(table: pd.DataFrame) -> bytes:
    book = openpyxl.Workbook()
    for row in [list(table.columns), *table.values.tolist()]:
        book.active.append(row)
    book.properties.created = book.properties.modified = pd.Timestamp("2024-01-01").to_pydatetime()
    out = io.BytesIO()
    book.save(out)
    with zipfile.ZipFile(io.BytesIO(out.getvalue())) as written:  # with today's date
        files = [(info.filename, written.read(info)) for info in written.infolist()]
    files = [(name, content) for name, content in files if name != "docProps/core.xml"]
    return pack_zip(files)


def _published() -> dict[str, str]:
    """The columns of the public tables, with invented rows."""
    return {
        "chexpert": "Path,Sex,Age,Frontal/Lateral,AP/PA,Pleural Effusion,Edema\n"
        + "".join(
            f"CheXpert-v1.0-small/train/patient{n:05d}/study1/"
            f"view{v}_frontal.jpg,Female,6{n},Frontal,AP,{n % 2}.0,-1.0\n"
            for n in range(4)
            for v in (1, 2)
        ),
        "nih": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
        + "".join(f"0000000{n}_00{n}.png,Effusion|Mass,{n},{n},05{n}Y,M,PA\n" for n in range(5)),
        "padchest": "ImageID,ImageDir,StudyDate_DICOM,StudyID,"
        "PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
        "Projection,Labels\n"
        + "".join(
            f"{n}.png,0,20140915,s{n},p{n // 2},1950,M,POSTEROANTERIOR,PA,\"['pleural effusion', 'mass']\"\n"
            for n in range(5)
        ),
        "mimic": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,"
        "ViewPosition,Rows,Columns,StudyDate,StudyTime\n"
        + "".join(f"d{n},1000{n // 2},5000{n},CHEST,PA,100,100,21800506,213014.531\n" for n in range(5)),
        "vindr": "image_id,rad_id,Pleural effusion,No finding\n"
        + "".join(f"v{n},R{n % 3},{n % 2},0\n" for n in range(5)),
        "rsna": "patientId,x,y,width,height,Target\n" + "".join(f"r{n},,,,,{n % 2}\n" for n in range(5)),
    }
