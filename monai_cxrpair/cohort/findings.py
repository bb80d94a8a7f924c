"""Names and values of findings, as the public tables and the hospitals write them."""

import re

import numpy as np
import pandas as pd

from monai_cxrpair.cohort.schema import FINDING_VALUES

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


def finding_name(text: str) -> str:
    """Write the name of a finding so that it can stand in a filter: `Pleural Effusion` -> `pleural_effusion`."""
    name = re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")
    if not name or name[0].isdigit():
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


def indicators(texts: pd.Series, *, separator: str = "|") -> pd.DataFrame:
    """Expand a column of finding names to one column each.

    Args:
        texts: Names separated by `separator`, such as `Effusion|Mass`; empty means that nothing is known.
        separator: What stands between two names.

    Returns:
        float32, one column per finding in alphabetical order: 1 where it is named, 0 where others are, missing where
        the text is empty.
    """
    codes, uniques = pd.factorize(texts.str.strip())
    named = [{finding_name(part) for part in text.split(separator) if part.strip()} for text in uniques]
    names = sorted(set().union(*named))
    known = np.array([bool(parts) for parts in named])
    columns = {}
    for name in names:
        values = np.where(known, np.array([name in parts for parts in named]), np.nan).astype("float32")
        columns[name] = np.append(values, np.float32(np.nan))[codes]
    return pd.DataFrame(columns, index=texts.index)
