"""Names and values of findings, as the public tables and the hospitals write them."""

import ast
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from monai_cxrpair.cohort.schema import COLUMNS, FINDING_VALUES

# The 14 observations of CheXpert (Irvin et al., AAAI 2019), in the order of its table.
CHEXPERT = (
    *("no_finding", "enlarged_cardiomediastinum", "cardiomegaly", "lung_opacity", "lung_lesion", "edema"),
    *("consolidation", "pneumonia", "atelectasis", "pneumothorax", "pleural_effusion", "pleural_other"),
    *("fracture", "support_devices"),
)
# The further names of NIH ChestX-ray14 (Wang et al., CVPR 2017).
NIH = ("infiltration", "mass", "nodule", "emphysema", "fibrosis", "pleural_thickening", "hernia")
KNOWN = frozenset((*CHEXPERT, *NIH))
# MedAug's code renames CheXpert's Lung Opacity to Airspace Opacity.
_SYNONYMS = {"effusion": "pleural_effusion", "airspace_opacity": "lung_opacity"}
# What the data sets with free names (PadChest, VinDr-CXR, Open-i) call the findings of CheXpert and NIH. Other names
# are not joined: a `loculated pleural effusion` or a `pericardial effusion` is no `pleural effusion`.
SHARED_NAMES = {
    **{"normal": "no_finding", "pulmonary_edema": "edema", "pulmonary_atelectasis": "atelectasis"},
    **{"infiltrates": "infiltration", "infiltrate": "infiltration", "pulmonary_mass": "mass"},
    **{"pulmonary_fibrosis": "fibrosis", "pulmonary_emphysema": "emphysema", "airspace_disease": "lung_opacity"},
    **{"hiatal_hernia": "hernia", "hernia_hiatal": "hernia"},
}


def shared_name(text: str) -> str:
    """Write the name of a finding as CheXpert or NIH call it, where they have it."""
    name = finding_name(text)
    return SHARED_NAMES.get(name, name)


def finding_name(text: str) -> str:
    """Write the name of a finding so that it can stand in a filter: `Pleural Effusion` -> `pleural_effusion`.

    One that is called like a column of the cohort becomes another one: `Path` -> `finding_path`.
    """
    name = re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")
    if not name or name[0].isdigit() or name in COLUMNS:
        name = f"finding_{name}".rstrip("_")
    return _SYNONYMS.get(name, name)


def finding_values(texts: pd.Series) -> tuple[pd.Series, "pd.Series[bool]"]:
    """Read the values of a finding.

    Args:
        texts: Text as it stands in the table, such as `1.0`, `-1` or empty.

    Returns:
        float32 with 1, 0, -1 or missing, and a boolean: is the text something else?
    """
    codes, uniques = pd.factorize(texts)  # a label column has few different texts, parsing them is then free
    numbers = pd.to_numeric(pd.Series(uniques, dtype="str").str.strip(), errors="coerce").to_numpy(dtype="float32")
    blank = (
        pd.Series(uniques, dtype="str").str.strip().str.lower().isin(["", "nan", "none", "<na>"]).to_numpy(dtype=bool)
    )
    numbers[blank] = np.nan
    wrong = ~blank & ~np.isin(numbers, FINDING_VALUES)
    values = pd.Series(np.append(numbers, np.float32(np.nan))[codes], index=texts.index, dtype="float32")
    return values, pd.Series(np.append(wrong, False)[codes], index=texts.index)


def names_in(text: str, *, separator: str = "|") -> list[str]:
    """Take a cell of names apart: `Effusion|Mass`, or a list as Python writes it (PadChest): `['mass', 'nodule']`.

    A list that cannot be read has no names. It is parsed as a literal: nothing in it is executed.
    """
    text = text.strip()
    if not text.startswith("["):
        return [part.strip() for part in text.split(separator) if part.strip()]
    try:
        parts = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [part.strip() for part in parts if isinstance(part, str) and part.strip()]


def indicators(texts: pd.Series, *, separator: str = "|", name: Callable[[str], str] = finding_name) -> pd.DataFrame:
    """Expand a column of finding names to one column each.

    Args:
        texts: Cells of names, see `names_in`; empty means that nothing is known.
        separator: What stands between two names.
        name: Makes the finding of a name; where it gives an empty text the name is passed over.

    Returns:
        float32, one column per finding in alphabetical order: 1 where it is named, 0 where others are, missing where
        the text has no name.
    """
    codes, uniques = pd.factorize(texts.str.strip())
    cells = [names_in(text, separator=separator) for text in uniques]
    finding = {part: name(part) for part in set().union(*cells)}
    names = sorted(set(finding.values()) - {""})
    column = {found: number for number, found in enumerate(names)}
    named = [(row, column[finding[part]]) for row, parts in enumerate(cells) for part in parts if finding[part]]
    rows, columns = np.array(named, dtype=np.int64).reshape(-1, 2).T
    values = np.full((len(cells) + 1, len(names)), np.nan, dtype=np.float32)  # the last row: a missing text
    values[rows] = 0
    values[rows, columns] = 1
    return pd.DataFrame(values[codes], columns=names, index=texts.index)
