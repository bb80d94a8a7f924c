"""The classifier beside the reader: probabilities of radiographs and studies, and heat maps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.calibrate import calibrated
from monai_cxrpair.evaluation.heat_map import HeatMaps
from monai_cxrpair.evaluation.protocols.units import make_units
from monai_cxrpair.imaging.cache import decode
from monai_cxrpair.label.embedder import Embedder, centre, preprocessing
from monai_cxrpair.label.heat_png import heat_png
from monai_cxrpair.label.history import FIRST
from monai_cxrpair.label.loaded import Loaded, Signature, find_model, load, signature
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.label.worklist import StudyScores


@dataclass(frozen=True, kw_only=True)
class RadiographPrediction:
    """`probability` None: the file cannot be read."""

    image: str
    laterality: str
    view_position: str
    probability: float | None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of a study: the maximum over its radiographs.

    Attributes:
        probability: None where no radiograph can be read.
        calibrated: the same, recalibrated; None where the card has no calibration.
        threshold: None where the card has no operating point.
        positive: None where either is not there.
    """

    study: str
    finding: str
    probability: float | None
    calibrated: float | None
    threshold: float | None
    positive: bool | None
    radiographs: tuple[RadiographPrediction, ...]


class ReaderModel:
    """Predicts the studies that are read, with `model.pt` and `model.json` as they are now.

    Every radiograph is embedded once; that is kept on disk, so a new head or a new start costs no run of the encoder.
    When the files change they are loaded anew at the next question. Threads may ask at once.

    Args:
        model: `model.pt`, or the folder with it alone.
        studies: what is read; `use` changes it.
        cache_folder: keeps pixels and embeddings.
        device: to compute on.
        own_encoder: definition of the encoder, where the card names one of somebody's own.
        batch_size: radiographs that are embedded at once.
        num_workers: that decode radiographs.

    Raises:
        CxrPairError: no classifier, several, or weights that are not its card's.
    """

    def __init__(
        self,
        model: str | Path,
        studies: Studies,
        *,
        cache_folder: str | Path,
        device: torch.device | str = "cpu",
        own_encoder: str | Mapping[str, Any] | None = None,
        batch_size: int = 64,
        num_workers: int = 1,
    ) -> None:
        self.model_file, self.studies, self.device = find_model(model), studies, device
        self._own_encoder = own_encoder
        self._embedder = Embedder(Path(cache_folder), batch_size=batch_size, num_workers=num_workers)
        self._load_lock, self._all_lock = threading.Lock(), threading.Lock()
        self._loaded: Loaded | None = None
        self._heat_maps: tuple[Signature, HeatMaps] | None = None
        self._scores: tuple[Signature, Studies, StudyScores] | None = None
        self.loaded()

    @property
    def finding(self) -> str:
        """What is predicted."""
        return str(self.loaded().card["finding"])

    def use(self, studies: Studies) -> None:
        """Read these studies from now on; what is known of their radiographs stays known."""
        self.studies = studies

    def loaded(self) -> Loaded:
        """The classifier, loaded anew where its files changed.

        Raises:
            CxrPairError: it cannot be loaded; the earlier one is not used in its place.
        """
        with self._load_lock:
            if self._loaded is None or self._loaded.signature != signature(self.model_file):
                self._loaded = load(self.model_file, device=self.device, own_encoder=self._own_encoder)
            return self._loaded

    def first(self) -> Loaded:
        """The classifier as it came, from before all refits.

        Raises:
            CxrPairError: it is not there any more.
        """
        return load(self.model_file.parent / FIRST / "model.pt", device=self.device, own_encoder=self._own_encoder)

    def embeddings(self, rows: npt.NDArray[np.int64], loaded: Loaded | None = None) -> npt.NDArray[np.float32]:
        """Of radiographs, by their rows in `studies.cohort`: (n, F), NaN where a file cannot be read."""
        return self._embedder.embed(loaded or self.loaded(), self.studies, rows)

    @property
    def pixels_folder(self) -> Path:
        """The pixel cache."""
        return self._embedder.pixels_folder

    def predict(self, study: str) -> Prediction:
        """The prediction of one study; only its own radiographs are read.

        Raises:
            CxrPairError: there is no such study.
        """
        loaded, studies = self.loaded(), self.studies
        found = studies.find(study)
        rows = np.array([each.row for each in found.radiographs], dtype=np.int64)
        values = loaded.probabilities(self._embedder.embed(loaded, studies, rows))
        probability = None if np.isnan(values).all() else float(np.nanmax(values))
        undecided = probability is None or loaded.threshold is None
        return Prediction(
            study=found.id,
            finding=str(loaded.card["finding"]),
            probability=probability,
            calibrated=None if probability is None else calibrated(probability, loaded.card.get("calibration")),
            threshold=loaded.threshold,
            positive=None if undecided else bool(probability >= loaded.threshold),  # type: ignore[operator]
            radiographs=tuple(
                RadiographPrediction(
                    image=each.image,
                    laterality=each.laterality,
                    view_position=each.view_position,
                    probability=None if np.isnan(value) else float(value),
                )
                for each, value in zip(found.radiographs, values, strict=True)
            ),
        )

    def scores(self) -> StudyScores:
        """What the classifier says of all studies, for the worklist; the first time all radiographs are embedded."""
        loaded, studies = self.loaded(), self.studies
        with self._all_lock:
            if self._scores is None or self._scores[0] != loaded.signature or self._scores[1] is not studies:
                rows = np.arange(len(studies.cohort))
                features = self._embedder.embed(loaded, studies, rows)
                self._scores = loaded.signature, studies, _of_studies(studies, features, loaded)
            return self._scores[2]

    def heat_map(self, image: str) -> bytes:
        """Where the classifier sees the finding in a radiograph: PNG, RGBA, to lay over the whole picture.

        Args:
            image: pseudonym of the radiograph.

        Raises:
            CxrPairError: there is no such radiograph, it cannot be read, or the encoder's layers have no places.
        """
        loaded, radiograph = self.loaded(), self.studies.radiograph(image)
        pixels = decode(str(radiograph.path), transform=preprocessing(loaded.image_size))
        if isinstance(pixels, str):
            raise CxrPairError(f"radiograph {image}: {pixels}")
        height, width = pixels.shape
        view = loaded.views(centre(pixels, loaded.image_size)[None, None])
        if self._heat_maps is None or self._heat_maps[0] != loaded.signature:
            self._heat_maps = loaded.signature, HeatMaps(loaded.network)
        return heat_png(self._heat_maps[1](view)[0], height=height, width=width)


def _of_studies(studies: Studies, features: npt.NDArray[np.float32], loaded: Loaded) -> StudyScores:
    names = list(studies)
    values = loaded.probabilities(features)
    readable = np.flatnonzero(~np.isnan(values))
    position = {name: number for number, name in enumerate(names)}
    codes = np.array([position[name] for name in studies.cohort.table["study_id"]], dtype=np.int64)
    # The same maximum over radiographs as in the evaluation; study ids are unique, so no patient codes are needed.
    nobody = np.zeros(len(codes), dtype=np.int64)
    units = make_units(readable, np.zeros(len(codes)), nobody, codes, aggregate="study_max")
    probabilities = np.full(len(names), np.nan)
    probabilities[codes[units.rows[units.starts]]] = units.pool(values[units.rows])
    middle = features[readable].mean(axis=0) if len(readable) else np.zeros(features.shape[1], np.float32)
    embeddings = np.tile(middle.astype(np.float32), (len(names), 1))
    for number, name in enumerate(names):
        for each in studies[name].radiographs:
            if not np.isnan(values[each.row]):
                embeddings[number] = features[each.row]
                break
    return StudyScores(studies=names, probabilities=probabilities, embeddings=embeddings, threshold=loaded.threshold)
