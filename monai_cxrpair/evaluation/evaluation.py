"""The evaluation workflow: embeddings once, the linear protocol, the classifier, the report."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from monai_cxrpair.cohort import Cohort, Split, open_split
from monai_cxrpair.cohort.split.draws import LabelDraws, label_draws, saved_label_draws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.classifier import build_classifier, fit_head, save_classifier
from monai_cxrpair.evaluation.embed import embed
from monai_cxrpair.evaluation.encoders import FrozenEncoder, check_no_leak, load_encoders, named_files
from monai_cxrpair.evaluation.protocol import LinearResult, linear_protocol
from monai_cxrpair.evaluation.report import write_report
from monai_cxrpair.evaluation.results import results_dict, text_table, write_text
from monai_cxrpair.evaluation.roc import roc_band
from monai_cxrpair.evaluation.statistics.auc import auc
from monai_cxrpair.evaluation.statistics.operating import at_threshold
from monai_cxrpair.evaluation.statistics.subgroups import standard_subgroups
from monai_cxrpair.imaging.cache import RadiographCacheDataset

logger = logging.getLogger(__name__)

PACKAGES = ("monai-cxrpair", "monai", "torch", "pydicom", "scikit-learn")


class LinearEvaluation:
    """Compares encoders with baselines by the linear probe on few labels (paper section 3.2).

    Args:
        whole_cohort: before any subset, to check that no test patient was seen in pre-training.
        dataloader: over a `RadiographCacheDataset` of the labelled radiographs, not shuffled.
        encoder_file: one `encoder.pt`, or name -> path; the classifier is made from the last.
        finding: column to predict.
        label_fraction: share of the labelled training studies in each draw (paper: 0.01).
        draws: how many random draws (paper: 5).
        test_fraction, split_seed: the patient split, as in training.
        split_file: a split of `cxrpair split` in their place, as in training; where it has label draws of this finding
            and fraction, they are used.
        output_dir: gets results, report, predictions and classifier.
        imagenet_weights: a local state dict for the ImageNet baseline, or None.
        encoder: definition of the encoders' network, where their cards name one of somebody's own.
        subset: the filter that was applied to the cohort, for the report.
        subgroups: name -> filter; the same probes are also measured inside each, beside the standard subgroups.
        seed: of draws, bootstrap and random weights.
        device: to compute embeddings on.
    """

    def __init__(
        self,
        *,
        whole_cohort: Cohort,
        dataloader: DataLoader[Any],
        encoder_file: str | Mapping[str, str],
        finding: str,
        label_fraction: float,
        draws: int,
        test_fraction: float,
        split_seed: int,
        output_dir: str | Path,
        split_file: str | None = None,
        imagenet_weights: str | None = None,
        encoder: str | Mapping[str, Any] | None = None,
        subset: str | None = None,
        subgroups: Mapping[str, str] | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.whole_cohort, self.dataloader, self.encoder_file = whole_cohort, dataloader, encoder_file
        self.finding, self.label_fraction, self.draws = finding, label_fraction, draws
        self.test_fraction, self.split_seed, self.seed = test_fraction, split_seed, seed
        self.split_file = split_file
        self.output_dir, self.imagenet_weights = Path(output_dir), imagenet_weights
        self.own_encoder = encoder
        self.subset, self.subgroups, self.device = subset, dict(subgroups or {}), device

    def run(self) -> dict[str, Any]:
        """Evaluate, write everything to `output_dir`, and return what `results.json` holds."""
        whole_split = open_split(
            self.whole_cohort, split_file=self.split_file, test_fraction=self.test_fraction, seed=self.split_seed
        )
        said = check_no_leak(self.encoder_file, cohort=self.whole_cohort, split=whole_split)
        dataset: RadiographCacheDataset = self.dataloader.dataset  # type: ignore[assignment]
        cohort = dataset.cohort
        labels = cohort.labels(self.finding)
        split = whole_split.within(cohort)
        if not len(split.test_rows):
            raise CxrPairError(f"split_file {self.split_file} has nobody on the test side: there is nothing to test on")
        patients, studies = cohort.codes("patient_id"), cohort.codes("study_id")
        subgroups = standard_subgroups(cohort.table)
        subgroups |= {name: _inside(cohort, rule) for name, rule in self.subgroups.items()}
        # Drawn here too, so that too few labels show before the radiographs are embedded.
        drawn = self._draws(cohort, split, labels, patients, studies)
        encoders, not_run = load_encoders(
            self.encoder_file,
            imagenet_weights=self.imagenet_weights,
            seed=self.seed,
            own_encoder=self.own_encoder,
        )
        logger.info("embedding %d radiographs with %d encoders", len(dataset), len(encoders))
        embeddings = embed(encoders, self.dataloader, device=self.device)
        linear = linear_protocol(
            embeddings,
            labels,
            patients,
            studies,
            split.train_rows,
            split.test_rows,
            fraction=self.label_fraction,
            draws=self.draws,
            seed=self.seed,
            subgroups=subgroups,
            drawn=drawn,
        )
        chosen = list(named_files(self.encoder_file))[-1]
        classifier = self._make_classifier(chosen, encoders[chosen], embeddings[chosen], labels, cohort, split, linear)
        results = results_dict(
            linear,
            finding=self.finding,
            cohort={**cohort.summary(), "unreadable": len(dataset.unreadable)},
            protocol={
                "test_fraction": split.test_fraction,
                "split_seed": split.seed,
                "split_hash": split.hash,
                "split_file": split.file_hash,
                "subset": self.subset,
                "image_size": dataset.image_size,
            },
            cards={name: {**encoder.card, **_leak_line(said, name)} for name, encoder in encoders.items()},
            not_run=not_run,
            classifier=classifier,
            versions={
                **{name: version(name) for name in PACKAGES},
                "python": platform.python_version(),
                "cohort fingerprint": self.whole_cohort.fingerprint(),
            },
        )
        self._write_predictions(cohort, linear)
        bands = {name: roc_band(linear.test_labels, s, linear.test_patients) for name, s in linear.scores.items()}
        report = write_report(results, out_dir=self.output_dir, roc=bands)
        logger.info("results\n%s", text_table(results, report=report))
        return results

    def _draws(
        self,
        cohort: Cohort,
        split: Split,
        labels: npt.NDArray[np.float64],
        patients: npt.NDArray[np.int64],
        studies: npt.NDArray[np.int64],
    ) -> LabelDraws:
        """The draws of the split file where it has some of this kind, else new ones; positions in the train rows."""
        known = split.train_rows
        images = cohort.table["image_id"].to_numpy(dtype=object)[known]
        saved = saved_label_draws(
            split.label_draws,
            labels[known],
            images,
            finding=self.finding,
            fraction=self.label_fraction,
            draws=self.draws,
        )
        if saved is not None:
            return saved
        return label_draws(
            labels[known],
            patients[known],
            studies[known],
            fraction=self.label_fraction,
            draws=self.draws,
            seed=self.seed,
        )

    def _make_classifier(
        self,
        name: str,
        encoder: FrozenEncoder,
        embeddings: npt.NDArray[np.float32],
        labels: npt.NDArray[np.float64],
        cohort: Cohort,
        split: Split,
        linear: LinearResult,
    ) -> dict[str, Any]:
        """Train the head on all labels of the training side and save it; the test side only measures it."""
        rows = split.train_rows[np.isin(labels[split.train_rows], (0.0, 1.0))]
        probe, operating_point = fit_head(
            embeddings[rows], labels[rows], cohort.codes("patient_id")[rows], seed=self.seed
        )
        scores = probe.predict_proba(embeddings[linear.test_rows])
        card = {
            "encoder": name,
            "trained_on": {"radiographs": len(rows), "present": int(labels[rows].sum())},
            "test_auc": auc(linear.test_labels, scores),
            "operating_point": operating_point,
            "at_operating_point": None
            if operating_point is None
            else at_threshold(linear.test_labels, scores, operating_point["threshold"], linear.test_patients),
            "calibration": None,
        }
        save_classifier(
            build_classifier(encoder, probe),
            self.output_dir,
            {
                **card,
                "finding": self.finding,
                "network": encoder.card["encoder"],
                "preprocessing": encoder.card["preprocessing"],
                "encoder_card": encoder.card,
                "probe_c": probe.c,
            },
        )
        return card

    def _write_predictions(self, cohort: Cohort, linear: LinearResult) -> None:
        table = cohort.table.iloc[linear.test_rows][["image_id", "patient_id", "study_id"]].reset_index(drop=True)
        table[self.finding] = linear.test_labels.astype(int)
        for name, scores in linear.scores.items():
            table[name] = scores.mean(axis=0)  # over the draws
        write_text(table.to_csv(index=False, float_format="%.6f"), self.output_dir / "predictions.csv")


def labelled(cohort: Cohort, finding: str) -> Cohort:
    """The radiographs with a label of `finding`, uncertain ones included: only these need to be read.

    Raises:
        CxrPairError: the cohort has no such finding, or no label of it.
    """
    labels = cohort.labels(finding)
    if np.isnan(labels).all():
        raise CxrPairError(
            f"finding {finding!r} has no label in the cohort: join some with `cxrpair index --labels FILE`"
        )
    return cohort.take(np.flatnonzero(~np.isnan(labels)))


def _inside(cohort: Cohort, rule: str) -> npt.NDArray[np.bool_]:
    return np.asarray(cohort.table["image_id"].isin(cohort.where(rule).table["image_id"]), dtype=bool)


def _leak_line(said: Mapping[str, str], name: str) -> dict[str, str]:
    return {"test_patients": said[name]} if name in said else {}
