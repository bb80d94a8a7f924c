"""Radiographs that the detector sends twice: raw (FOR PROCESSING) and as it is shown (FOR PRESENTATION)."""

import pandas as pd


def raw_twins(table: pd.DataFrame) -> "pd.Series[bool]":
    """Find the raw images of which there is one for presentation (Presentation Intent Type, PS3.3 C.8.11.1).

    The image for presentation names its source (Source Image Sequence); where none does, one of the same study and
    view, taken at the same second or at an unknown time, is the twin.

    Args:
        table: Columns `image_id`, `study_id`, `laterality`, `view_position`, `_for_processing`, `_acquired` and
            `_sources` of `rows.SCHEMA`.

    Returns:
        One boolean per row.
    """
    raw = table["_for_processing"].astype(bool)
    if not raw.any():
        return raw
    shown = table[~raw]
    named = {uid for sources in shown["_sources"].dropna() for uid in sources.split()}
    view = ["study_id", "laterality", "view_position"]
    pairs = table.loc[raw, [*view, "_acquired"]].reset_index().merge(shown[[*view, "_acquired"]], on=view)
    at_once = pairs["_acquired_x"].isna() | pairs["_acquired_y"].isna() | (pairs["_acquired_x"] == pairs["_acquired_y"])
    return raw & (table["image_id"].isin(named) | table.index.isin(pairs.loc[at_once, "index"]))
