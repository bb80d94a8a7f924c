"""An evaluation that is done, of a cohort without pixels: for the panels of the report that look at tables only."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from monai_cxrpair.cohort import Cohort, split_patients
from monai_cxrpair.cohort.split.draws import label_draws
from monai_cxrpair.evaluation import labelled
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.panels import Evaluated
from monai_cxrpair.evaluation.protocols.data import make_cases
from monai_cxrpair.evaluation.protocols.labels import apply_policy
from monai_cxrpair.evaluation.report.page import write_report

FINDING = "pleural_effusion"


def make_table(patients=60, *, seed=0):
    """One to three studies a patient, a frontal view each and now and then a lateral; labels of all four states."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        age, sex = float(rng.integers(20, 90)), str(rng.choice(["F", "M"]))
        for study in range(int(rng.integers(1, 4))):
            label = rng.choice([1.0, 0.0, -1.0, np.nan], p=[0.3, 0.4, 0.1, 0.2])
            for view, side in [("PA", "frontal"), ("LL", "lateral")][: int(rng.integers(1, 3))]:
                rows.append(
                    {
                        "image_id": f"i{len(rows)}", "patient_id": f"p{patient}", "study_id": f"p{patient}s{study}",
                        "laterality": side, "view_position": view, "age": age + study, "sex": sex,
                        "path": f"DOE^JANE/{len(rows)}.dcm", FINDING: label,
                        "support_devices": float(rng.integers(0, 2)),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def make_cohort(table=None, **settings):
    table = make_table() if table is None else table
    findings = [name for name in (FINDING, "support_devices", "edema") if name in table]
    return Cohort(table, root="/nowhere", findings=findings, source="table", **settings)


def evaluated_on(
    whole, *, subset=None, blank="ignore", uncertain="ignore", unreadable=(), split=None, cards=None, files=None,
    aggregate="image",
):  # fmt: skip
    """What `LinearEvaluation` hands to the panels; `cards` and `files` are of the trained encoders."""
    cards = cards or {}
    split = split or split_patients(whole, test_fraction=0.4, seed=0)
    wanted = labelled(whole.where(subset) if subset else whole, FINDING, blank=blank)
    cohort = wanted.take(np.flatnonzero(~wanted.table["image_id"].isin(set(unreadable))))
    labels = apply_policy(cohort.labels(FINDING), uncertain=uncertain, blank=blank)
    within = split.within(cohort)
    names = ["random weights", *cards]
    embeddings = {name: np.random.default_rng(1).normal(size=(len(cohort), 4)).astype(np.float32) for name in names}
    patients, studies = cohort.codes("patient_id"), cohort.codes("study_id")
    cases = make_cases(labels, patients, studies, within.train_rows, within.test_rows, aggregate=aggregate)
    train = cases.train
    drawn = label_draws(labels[train], patients[train], studies[train], fraction=0.4, draws=3, seed=0)
    linear = SimpleNamespace(  # nothing is learned: that takes seconds, and these panels do not look at scores
        draws=[train[rows] for rows in drawn], test_rows=cases.units.rows, test_labels=cases.units.present,
        test_patients=cases.units.patients, cases=cases, counts=cases.counts(),
    )  # fmt: skip
    network = torch.nn.Identity()
    encoders = {
        name: FrozenEncoder(network=network, mean=0.5, std=0.2, card={"encoder": "resnet18"} | cards.get(name, {}))
        for name in names
    }
    return Evaluated(
        finding=FINDING,
        whole_cohort=whole,
        cohort=cohort,
        whole_split=split,
        split=within,
        labels=labels,
        dataset=SimpleNamespace(unreadable=[f"{name}: it is: broken" for name in unreadable], cohort=cohort),
        encoders=encoders,
        files=files or {name: f"/nowhere/{name}/encoder.pt" for name in cards},
        embeddings=embeddings,
        linear=linear,
        chosen=names[-1],
        probe=None,
        subset=subset,
    )


def without_patient_ids(evaluated):
    """The same evaluation, of a source that does not know its patients."""
    return dataclasses.replace(evaluated, cohort=make_cohort(evaluated.cohort.table, patients_known=False))


def page_of(evaluated, name, make, folder):
    """The report with one panel, in a folder; the figures of the protocol are made up."""
    linear = {"auc_mean": 0.75, "auc_sd": 0.01, "ci95": [0.7, 0.8], "auc_draws": [0.74, 0.75, 0.76]}
    results = {
        "finding": FINDING,
        "protocol": {"draws": 3, "label_fraction": 0.4, "radiographs_per_draw": [10, 12]},
        "cohort": {**evaluated.cohort.summary(), **evaluated.linear.counts},
        "encoders": {name: {"linear": linear, "card": encoder.card} for name, encoder in evaluated.encoders.items()},
        "comparisons": [],
    }
    panel = make(evaluated, folder)
    report = write_report(results, out_dir=folder, panels={name: panel} if panel else {})
    return report.read_text(encoding="utf-8")
