"""What a panel of the report gets to see, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_cxrpair.cohort import Cohort, Split
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.protocols.runner import ProtocolResult
from monai_cxrpair.imaging.cache import RadiographCacheDataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """An evaluation that is done; rows are those of `cohort`, of the embeddings and of the dataset alike.

    Attributes:
        finding: the label column.
        whole_cohort: all radiographs, before any subset and whether labelled or not.
        cohort: the radiographs that were embedded.
        whole_split: sides of `whole_cohort`.
        split: sides of `cohort`.
        labels: (N,) 1, 0, -1 uncertain, NaN missing, after the policies.
        dataset: item k is the radiograph of row k, `["image"]` its uint8 (1, H, W).
        encoders: name -> network and card; baselines first.
        files: name -> path of the `encoder.pt`, of the trained ones.
        embeddings: name -> float32 (N, F).
        linear: the linear probe at the first size: scores of the test side for each draw.
        chosen: name of the encoder that the classifier is made from.
        probe: the classifier's head, trained on all labels of the training side.
        subset: the filter that made `cohort` of `whole_cohort`, or None.
        show_radiographs: false: no picture may show a radiograph, so that the report can be sent around.
        seed: of whatever is drawn.
        device: to run networks on.
    """

    finding: str
    whole_cohort: Cohort
    cohort: Cohort
    whole_split: Split
    split: Split
    labels: NDArray[np.float64]
    dataset: RadiographCacheDataset
    encoders: dict[str, FrozenEncoder]
    files: dict[str, str]
    embeddings: dict[str, NDArray[np.float32]]
    linear: ProtocolResult
    chosen: str
    probe: LinearProbe
    subset: str | None = None
    show_radiographs: bool = True
    seed: int = 0
    device: torch.device | str = "cpu"

    def pixels(self, rows: Iterable[int]) -> NDArray[np.float32]:
        """The radiographs of some rows: (B, 1, H, W) in [0, 1]."""
        images = self.dataset.__getitems__([int(row) for row in rows])["image"]
        return np.asarray(images / np.float32(255), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: its template is `report/templates/<name>.html.j2`.

    Attributes:
        figures: what its template shows and `results.json` keeps, under `panels` and its name.
        pictures: name in the template -> PNG, JPEG or SVG file beside the report.
    """

    figures: dict[str, Any]
    pictures: dict[str, Path] = field(default_factory=dict)


class PanelError(CxrPairError):
    """Why a panel, or a row of it, cannot be made, in words for the page: no file, no path, no identifier in them."""


# None: there is nothing to show, and the section is left out.
Maker = Callable[[Evaluated, Path], Panel | None]
