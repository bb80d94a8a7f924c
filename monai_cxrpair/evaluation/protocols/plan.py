"""What the config asks for: which protocols, on how many labels, tested how. Checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_cxrpair.cohort import Cohort, Split
from monai_cxrpair.cohort.split.draws import LabelDraws, saved_label_draws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.probe import DEFAULT_C
from monai_cxrpair.evaluation.protocols.data import Cases
from monai_cxrpair.evaluation.protocols.draw_files import file_draws
from monai_cxrpair.evaluation.protocols.fine_tune import FineTuneLearner
from monai_cxrpair.evaluation.protocols.knn import KnnLearner
from monai_cxrpair.evaluation.protocols.labels import apply_policy
from monai_cxrpair.evaluation.protocols.learned import Learner
from monai_cxrpair.evaluation.protocols.linear import LinearLearner
from monai_cxrpair.evaluation.protocols.paper_probe import AdamLearner
from monai_cxrpair.evaluation.protocols.runner import ProtocolResult, run_protocol
from monai_cxrpair.evaluation.protocols.sizes import DRAW_BY, LabelSize, label_sizes, make_draws
from monai_cxrpair.evaluation.protocols.tune_settings import PRESETS, tune_settings
from monai_cxrpair.evaluation.protocols.units import AGGREGATES
from monai_cxrpair.imaging.cache import RadiographCacheDataset

PROTOCOLS = ("linear", "knn", "fine_tune")
# Protocol -> size of the draws -> what was measured.
Outcomes = dict[str, dict[str, ProtocolResult]]


class ProtocolPlan:
    """The protocols of an evaluation; the arguments are keys of `evaluate.yaml`.

    Args:
        protocols: some of `PROTOCOLS`, `linear` among them: the classifier is made from it, and it takes seconds.
        linear: `optimiser`: `converged` or `paper`; `c`: inverse penalty of the converged one, None: chosen inside the
            draw; `batch_norm`: `frozen` or, for `paper`, `live`: a network pass for every batch.
        knn: `neighbours`, `temperature`.
        fine_tune: see `tune_settings`.
        label_fraction, label_studies: see `label_sizes`.
        label_draw_files: see `file_draws`; in place of the two and of `draws`.
        draw_by: `patient` or `radiograph`.
        draws: random draws of each size.
        aggregate: `image`, `study_max` or `study_mean`.
        uncertain, blank: see `apply_policy`.
        calibrate: see `run_protocol`.
        seed: of draws, learners and bootstrap.

    Raises:
        CxrPairError: a value that is none, by key.
    """

    def __init__(
        self,
        *,
        protocols: Sequence[str] = ("linear",),
        linear: Mapping[str, Any] | None = None,
        knn: Mapping[str, Any] | None = None,
        fine_tune: Mapping[str, Any] | None = None,
        label_fraction: Any = 0.01,
        label_studies: Any = None,
        label_draw_files: str | Sequence[str] | None = None,
        draw_by: str = "patient",
        draws: int = 5,
        aggregate: str = "image",
        uncertain: str = "ignore",
        blank: str = "ignore",
        calibrate: bool = False,
        seed: int = 0,
    ) -> None:
        self.protocols = [protocols] if isinstance(protocols, str) else list(protocols)
        _check_protocols(self.protocols)
        self.linear = _section("linear", linear, {"optimiser": "converged", "c": DEFAULT_C, "batch_norm": "frozen"})
        _check_word("linear#optimiser", self.linear["optimiser"], ("converged", "paper"))
        _check_word("linear#batch_norm", self.linear["batch_norm"], ("frozen", "live"))
        if self.linear["batch_norm"] == "live" and self.linear["optimiser"] != "paper":
            raise CxrPairError(
                "linear#batch_norm live goes with linear#optimiser paper only: the embeddings of a live encoder change "
                "with every batch, so there is nothing to converge on"
            )
        self.knn = _section("knn", knn, {"neighbours": 20, "temperature": 0.07})
        self.preset, self.fine_tune = tune_settings(fine_tune or {})
        files = [label_draw_files] if isinstance(label_draw_files, str) else list(label_draw_files or ())
        self.files = [str(file) for file in files]
        self.sizes = label_sizes(label_fraction, label_studies, files=bool(self.files))
        _check_word("draw_by", draw_by, DRAW_BY)
        _check_word("aggregate", aggregate, AGGREGATES)
        apply_policy([], uncertain=uncertain, blank=blank)
        self.draw_by, self.draws, self.aggregate, self.seed = draw_by, draws, aggregate, seed
        self.uncertain, self.blank, self.calibrate = uncertain, blank, calibrate

    def draw(self, cohort: Cohort, split: Split, cases: Cases, finding: str) -> tuple[dict[str, LabelDraws], Any]:
        """The draws of each size, as positions in the train rows; and what `file_draws` counted, None without files.

        Those of the split file are used where it has some of this finding and fraction.
        """
        if self.files:
            drawn, counts = file_draws(self.files, cohort, cases.labels, cases.train)
            return {self.sizes[0].key: drawn}, counts
        return {size.key: self._draw(size, cohort, split, cases, finding) for size in self.sizes}, None

    def _draw(self, size: LabelSize, cohort: Cohort, split: Split, cases: Cases, finding: str) -> LabelDraws:
        known = cases.train
        labels = cases.labels[known]
        if size.fraction is not None and self.draw_by == "patient":
            images = cohort.table["image_id"].to_numpy(dtype=object)[known]
            wanted: dict[str, Any] = {"finding": finding, "fraction": size.fraction, "draws": self.draws}
            saved = saved_label_draws(split.label_draws, labels, images, **wanted)
            if saved is not None:
                return saved
        who, which = cases.patients[known], cases.studies[known]
        return make_draws(size, labels, who, which, by=self.draw_by, draws=self.draws, seed=self.seed)

    def run(
        self,
        encoders: Mapping[str, FrozenEncoder],
        embeddings: Mapping[str, NDArray[np.float32]],
        dataset: RadiographCacheDataset,
        cases: Cases,
        drawn: Mapping[str, LabelDraws],
        *,
        device: torch.device | str,
    ) -> Outcomes:
        """Every protocol on the draws of every size."""
        outcomes: Outcomes = {}
        for protocol in self.protocols:
            learner = self.learner(protocol, encoders, embeddings, dataset, cases, device=device)
            outcomes[protocol] = {
                size.key: run_protocol(
                    protocol, learner, list(encoders), cases, drawn[size.key], seed=self.seed,
                    label_fraction=size.fraction, calibrate=self.calibrate,
                )
                for size in self.sizes
            }  # fmt: skip
        return outcomes

    def learner(
        self,
        protocol: str,
        encoders: Mapping[str, FrozenEncoder],
        embeddings: Mapping[str, NDArray[np.float32]],
        dataset: RadiographCacheDataset,
        cases: Cases,
        *,
        device: torch.device | str,
    ) -> Learner:
        """What learns under a protocol."""
        y, who = cases.labels, cases.patients
        if protocol == "knn":
            return KnnLearner(embeddings, y, who, **self.knn)
        common: dict[str, Any] = {"seed": self.seed, "device": device}
        if protocol == "fine_tune":
            return FineTuneLearner(encoders, dataset, y, who, settings=self.fine_tune, name=self.preset, **common)
        if self.linear["optimiser"] == "converged":
            return LinearLearner(embeddings, y, who, seed=self.seed, c=self.linear["c"])
        if self.linear["batch_norm"] == "frozen":
            return AdamLearner(embeddings, y, who, **common)
        # The released code's "frozen" encoder: only the last layer learns, but the network stays in training mode.
        head = replace(PRESETS["paper"], train="head", holdout=0.0)
        return FineTuneLearner(encoders, dataset, y, who, settings=head, name="paper, live", **common)


def _check_protocols(protocols: list[str]) -> None:
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise CxrPairError(f"protocols has {protocol!r}: use some of {', '.join(PROTOCOLS)}")
    if "linear" not in protocols or len(set(protocols)) < len(protocols):
        raise CxrPairError(
            f"protocols is {protocols}: name linear, from which the classifier is made, and each protocol once"
        )


def _check_word(key: str, word: Any, known: Sequence[str]) -> None:
    if word not in known:
        raise CxrPairError(f"{key} is {word!r}: use {' or '.join(known)}")


def _section(name: str, given: Mapping[str, Any] | None, defaults: dict[str, Any]) -> dict[str, Any]:
    for key in given or {}:
        if key not in defaults:
            raise CxrPairError(f"{name}#{key} is unknown: there are {', '.join(defaults)}")
    return {**defaults, **(given or {})}
