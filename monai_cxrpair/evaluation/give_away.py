"""What the encoder gives away beside the finding: who the patient is, and how and where the radiograph was taken."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.cohort import Cohort, Split
from monai_cxrpair.evaluation.attribute_probe import attribute_probe
from monai_cxrpair.evaluation.attributes import views
from monai_cxrpair.evaluation.patient_pairs import Side
from monai_cxrpair.evaluation.reidentify import reidentification

logger = logging.getLogger(__name__)

# Columns that a cohort may bring along (`cxrpair index --column`) and that say where the radiograph was made.
SITE_COLUMNS = ("site", "institution", "hospital", "manufacturer", "manufacturer_model", "scanner")
NO_PATIENTS = "the cohort has no patient ids"
NO_SITE = f"the cohort has none of the columns {', '.join(SITE_COLUMNS)}"


def give_away(
    embeddings: Mapping[str, NDArray[np.float32]], cohort: Cohort, split: Split, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Measure on the test side, for each encoder with the same pairs, rows and bootstrap replicates.

    Args:
        embeddings: name -> (N, F), one row for each radiograph of the cohort.
        cohort: the radiographs.
        split: of this cohort.
        seed: of draws and bootstrap.

    Returns:
        Name -> `reidentification` (see there), `view` (`laterality`: frontal against lateral; `view_position`: AP
        against PA) and `site` (column -> figures), each of `attribute_probe`; or `not_measured` in their place.
    """
    table, patients, test = cohort.table, cohort.codes("patient_id"), split.test_rows
    if cohort.patients_known:
        columns = {name: table[name].to_numpy(dtype=object)[test] for name in ("laterality", "view_position")}
        identity = reidentification(
            {name: values[test] for name, values in embeddings.items()},
            Side(
                patients=patients[test],
                studies=cohort.codes("study_id")[test],
                laterality=columns["laterality"],
                position=columns["view_position"],
            ),
            centre={name: values[split.train_rows].mean(axis=0) for name, values in embeddings.items()},
            seed=seed,
        )
    else:
        identity = {name: {"not_measured": NO_PATIENTS} for name in embeddings}
    seen = views(table)
    sites = {name: table[name].fillna("").astype(str).to_numpy(dtype=object) for name in SITE_COLUMNS if name in table}
    probed = {
        name: attribute_probe(embeddings, values, patients, split.train_rows, test, seed=seed)
        for name, values in (seen | sites).items()
    }
    found = {
        name: {
            "reidentification": identity[name],
            "view": {kind: probed[kind][name] for kind in seen},
            "site": {kind: probed[kind][name] for kind in sites} if sites else {"not_measured": NO_SITE},
        }
        for name in embeddings
    }
    for name, entry in found.items():
        figures = entry["reidentification"]
        logger.info(
            "%s: same patient or another, AUC %s",
            name,
            f"{figures['auc']:.3f}" if "auc" in figures else f"not measured: {figures['not_measured']}",
        )
    return found
