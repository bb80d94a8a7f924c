"""The evaluation workflow: embeddings once, the protocols, the classifier, the report."""

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

from monai_cxrpair.cohort import Cohort, open_split, patient_digests
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.embedding_store import embed_once
from monai_cxrpair.evaluation.encoders import check_no_leak, load_encoders, named_files
from monai_cxrpair.evaluation.final_classifier import final_classifier
from monai_cxrpair.evaluation.give_away import give_away
from monai_cxrpair.evaluation.panels import Evaluated, make_panels
from monai_cxrpair.evaluation.protocols.data import Cases, make_cases
from monai_cxrpair.evaluation.protocols.labels import apply_policy
from monai_cxrpair.evaluation.protocols.plan import Outcomes, ProtocolPlan
from monai_cxrpair.evaluation.protocols.summary import add_protocols
from monai_cxrpair.evaluation.report.curves import curve_bands
from monai_cxrpair.evaluation.report.page import write_report
from monai_cxrpair.evaluation.report.results import results_dict, text_table, write_results, write_text
from monai_cxrpair.evaluation.statistics.subgroups import standard_subgroups
from monai_cxrpair.imaging.cache import RadiographCacheDataset

logger = logging.getLogger(__name__)

PACKAGES = ("monai-cxrpair", "monai", "torch", "pydicom", "scikit-learn")


class LinearEvaluation:
    """Compares encoders with baselines on few labels (paper section 3.2): by the linear probe, and what else is asked.

    Args:
        whole_cohort: before any subset, to check that no test patient was seen in pre-training.
        dataloader: over a `RadiographCacheDataset` of the labelled radiographs, not shuffled.
        encoder_file: one `encoder.pt`, or name -> path; the classifier is made from the last.
        finding: column to predict.
        test_fraction, split_seed: the patient split, as in training.
        split_file: a split of `cxrpair split` in their place, as in training; where it has label draws of this finding
            and fraction, they are used.
        allow_seen_test_patients: evaluate an encoder that was pre-trained on test patients, and say so in the report.
        output_dir: gets results, report, predictions and classifier.
        imagenet_weights: a local state dict for the ImageNet baseline, or None.
        encoder: definition of the encoders' network, where their cards name one of somebody's own.
        subset: the filter that was applied to the cohort, for the report.
        subgroups: name -> filter; the same probes are also measured inside each, beside the standard subgroups.
        embedding_dir: a folder where embeddings are kept for later evaluations, or None.
        seed: of draws, bootstrap and random weights.
        device: to compute embeddings on.
        target_auc: of the forecast, see `learning_curve`.
        show_radiographs: false: the report shows no radiograph, so that it can be sent around.
        choices: which protocols, on how many labels, tested how: see `ProtocolPlan`.
    """

    def __init__(
        self,
        *,
        whole_cohort: Cohort,
        dataloader: DataLoader[Any],
        encoder_file: str | Mapping[str, str],
        finding: str,
        test_fraction: float,
        split_seed: int,
        output_dir: str | Path,
        split_file: str | None = None,
        allow_seen_test_patients: bool = False,
        imagenet_weights: str | None = None,
        encoder: str | Mapping[str, Any] | None = None,
        subset: str | None = None,
        subgroups: Mapping[str, str] | None = None,
        embedding_dir: str | Path | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        target_auc: float | None = None,
        show_radiographs: bool = True,
        **choices: Any,
    ) -> None:
        self.whole_cohort, self.dataloader, self.encoder_file = whole_cohort, dataloader, encoder_file
        self.finding, self.target_auc = finding, target_auc
        self.plan = ProtocolPlan(seed=seed, **choices)
        self.test_fraction, self.split_seed, self.seed = test_fraction, split_seed, seed
        self.split_file, self.allow_seen_test_patients = split_file, allow_seen_test_patients
        self.output_dir, self.imagenet_weights, self.embedding_dir = Path(output_dir), imagenet_weights, embedding_dir
        self.own_encoder = encoder
        self.subset, self.subgroups, self.device = subset, dict(subgroups or {}), device
        self.show_radiographs = show_radiographs

    def run(self) -> dict[str, Any]:
        """Evaluate, write everything to `output_dir`, and return what `results.json` holds."""
        whole_split = open_split(
            self.whole_cohort, split_file=self.split_file, test_fraction=self.test_fraction, seed=self.split_seed
        )
        said = check_no_leak(
            self.encoder_file, cohort=self.whole_cohort, split=whole_split, allow_seen=self.allow_seen_test_patients
        )
        dataset: RadiographCacheDataset = self.dataloader.dataset  # type: ignore[assignment]
        cohort = dataset.cohort
        plan = self.plan
        raw = cohort.labels(self.finding)
        labels = apply_policy(raw, uncertain=plan.uncertain, blank=plan.blank)
        split = whole_split.within(cohort)
        if not len(split.test_rows):
            raise CxrPairError(f"split_file {self.split_file} has nobody on the test side: there is nothing to test on")
        patients, studies = cohort.codes("patient_id"), cohort.codes("study_id")
        subgroups = standard_subgroups(cohort.table)
        subgroups |= {name: _inside(cohort, rule) for name, rule in self.subgroups.items()}
        cases = make_cases(
            labels, patients, studies, split.train_rows, split.test_rows, aggregate=plan.aggregate, subgroups=subgroups
        )
        # Drawn here, so that too few labels show before the radiographs are embedded.
        drawn, from_files = plan.draw(cohort, split, cases, self.finding)
        encoders, not_run = load_encoders(
            self.encoder_file,
            imagenet_weights=self.imagenet_weights,
            seed=self.seed,
            own_encoder=self.own_encoder,
        )
        embeddings = embed_once(encoders, self.dataloader, device=self.device, folder=self.embedding_dir)
        outcomes = plan.run(encoders, embeddings, dataset, cases, drawn, device=self.device)
        linear = next(iter(outcomes["linear"].values()))
        chosen = list(named_files(self.encoder_file))[-1]
        classifier, probe = final_classifier(
            chosen,
            encoders[chosen],
            embeddings[chosen],
            linear,
            dataset=dataset,
            finding=self.finding,
            output_dir=self.output_dir,
            seed=self.seed,
        )
        results = results_dict(
            linear,
            finding=self.finding,
            cohort={
                **cohort.summary(),
                "unreadable": len(dataset.unreadable),
                "patients_seen": patient_digests(cohort, cases.train),
                "patients_tested": patient_digests(cohort, linear.test_rows),
            },
            protocol={
                "test_fraction": split.test_fraction,
                "split_seed": split.seed,
                "split_hash": split.hash,
                "split_file": split.file_hash,
                "subset": self.subset,
                "image_size": dataset.image_size,
                "uncertain": plan.uncertain,
                "blank": plan.blank,
                # What the two policies made a label, among all radiographs.
                "uncertain_counted": int(((raw == -1) & (labels != -1)).sum()),
                "blank_counted": int((np.isnan(raw) & ~np.isnan(labels)).sum()),
                "draw_by": None if from_files else plan.draw_by,
                "label_draw_files": {f"draw {n}": count for n, count in enumerate(from_files or ())} or None,
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
        add_protocols(results, outcomes, target_auc=self.target_auc)
        for name, figures in give_away(embeddings, cohort, split, seed=self.seed).items():
            results["encoders"][name]["gives_away"] = figures
        self._write_predictions(cohort, cases, outcomes)
        bands = {name: curve_bands(linear.test_labels, s, linear.test_patients) for name, s in linear.scores.items()}
        # A panel may fail; what was measured is safe before it.
        write_results(results, self.output_dir / "results.json")
        panels = make_panels(
            Evaluated(
                finding=self.finding,
                whole_cohort=self.whole_cohort,
                cohort=cohort,
                whole_split=whole_split,
                split=split,
                labels=labels,
                dataset=dataset,
                encoders=encoders,
                files=named_files(self.encoder_file),
                embeddings=embeddings,
                linear=linear,
                chosen=chosen,
                probe=probe,
                subset=self.subset,
                show_radiographs=self.show_radiographs,
                seed=self.seed,
                device=self.device,
            ),
            out_dir=self.output_dir,
        )
        roc, pr = ({name: band[kind] for name, band in bands.items()} for kind in ("roc", "pr"))
        report = write_report(results, out_dir=self.output_dir, roc=roc, pr=pr, panels=panels)
        logger.info("results\n%s", text_table(results, report=report))
        return results

    def _write_predictions(self, cohort: Cohort, cases: Cases, outcomes: Outcomes) -> None:
        """The scores at the first size, means over the draws, a row for what was tested: radiographs or studies."""
        units = cases.units
        columns = ["image_id", "patient_id", "study_id"] if units.aggregate == "image" else ["patient_id", "study_id"]
        table = cohort.table.iloc[units.rows[units.starts]][columns].reset_index(drop=True)
        table[self.finding] = units.present.astype(int)
        for protocol, sizes in outcomes.items():
            for name, scores in next(iter(sizes.values())).scores.items():
                table[name if protocol == "linear" else f"{name} ({protocol})"] = scores.mean(axis=0)
        write_text(table.to_csv(index=False, float_format="%.6f"), self.output_dir / "predictions.csv")


def labelled(cohort: Cohort, finding: str, *, blank: str = "ignore") -> Cohort:
    """The radiographs that have a part in the evaluation: only these need to be read.

    Args:
        cohort: the radiographs.
        finding: the label column.
        blank: `ignore`: those with a label, uncertain ones included; `zeros`: all, for a blank is a label then.

    Raises:
        CxrPairError: the cohort has no such finding, or no label of it.
    """
    labels = cohort.labels(finding)
    if np.isnan(labels).all():
        raise CxrPairError(
            f"finding {finding!r} has no label in the cohort: join some with `cxrpair index --labels FILE`"
        )
    return cohort.take(np.flatnonzero(~np.isnan(apply_policy(labels, blank=blank))))


def _inside(cohort: Cohort, rule: str) -> npt.NDArray[np.bool_]:
    return np.asarray(cohort.table["image_id"].isin(cohort.where(rule).table["image_id"]), dtype=bool)


def _leak_line(said: Mapping[str, str], name: str) -> dict[str, str]:
    return {"test_patients": said[name]} if name in said else {}
