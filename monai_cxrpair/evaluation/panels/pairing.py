"""What the pairing rule of each encoder came to, counted on the radiographs that it was pre-trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_cxrpair.cohort import Cohort, Split, hold_out_validation, split_patients
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel, PanelError
from monai_cxrpair.pairing import Affinity, PairCriterion, build_index
from monai_cxrpair.pairing.census import rule_figures
from monai_cxrpair.pairing.census_text import meaning
from monai_cxrpair.pairing.properties import finding_codes

logger = logging.getLogger(__name__)

UNKNOWN = "its card asks for what this version cannot count; the log of the evaluation says more"


def make(evaluated: Evaluated, out_dir: Path) -> Panel | None:
    """Count the rule of each encoder; every figure is exact, none is sampled.

    Args:
        evaluated: the evaluation.
        out_dir: unused, there is no picture.

    Returns:
        A panel with `encoders` (name -> figures), `without_rule` (names: plain MoCo), and `left_out` (name -> why);
        None where no encoder was trained with a rule.
    """
    cards = {name: evaluated.encoders[name].card for name in evaluated.files}
    if not any(card.get("pairing") for card in cards.values()):
        return None
    figures: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    counted: dict[tuple[Any, ...], dict[str, Any]] = {}  # encoders of another seed have the same
    fingerprint = evaluated.whole_cohort.fingerprint()
    for name, card in cards.items():
        if not card.get("pairing"):
            continue
        trained = card["cohort"]
        if trained.get("fingerprint") != fingerprint:
            left_out[name] = "pre-trained on another cohort, which is not here to be counted"
            continue
        try:
            rule = PairCriterion.from_config(card["pairing"])
            assert rule is not None
            key = (rule, *(trained.get(part) for part in _SIDE))
            if key not in counted:
                counted[key] = count(training_side(evaluated, trained), rule, evaluated.finding)
            figures[name] = counted[key] | {
                "keys_per_query": card.get("keys_per_query", 1),
                "affinity": affinity_words(Affinity.from_config(card.get("affinity"))),
            }
        except PanelError as reason:
            left_out[name] = str(reason)
        except (CxrPairError, KeyError, TypeError, ValueError) as error:
            # Of a card from another version: the other encoders are counted all the same. Its text may hold a path.
            logger.warning("the pairing of %s is not counted", name, exc_info=error)
            left_out[name] = UNKNOWN
    without = [name for name, card in cards.items() if not card.get("pairing")]
    return Panel(figures={"encoders": figures, "without_rule": without, "left_out": left_out})


# What of a card's cohort decides who is on the training side.
_SIDE = ("test_fraction", "validation_fraction", "split_seed", "split_file", "subset", "radiographs", "unreadable")


def training_side(evaluated: Evaluated, trained: Mapping[str, Any]) -> Cohort:
    """The radiographs that an encoder was pre-trained on, those included that could not be read then.

    Args:
        evaluated: the evaluation, of the same cohort.
        trained: `cohort` of the encoder's card.

    Raises:
        PanelError: they cannot be found again from what the card says.
    """
    whole, held_out = evaluated.whole_cohort, trained.get("validation_fraction") or 0.0
    split: Split
    if trained.get("split_file"):
        if trained["split_file"] != evaluated.whole_split.file_hash:
            raise PanelError("pre-trained with a split file that is not the one of this evaluation")
        split = evaluated.whole_split
    else:
        split = split_patients(whole, test_fraction=trained["test_fraction"], seed=trained["split_seed"])
        split = hold_out_validation(whole, split, fraction=held_out, seed=trained["split_seed"])
    try:
        cohort = whole.where(trained["subset"]) if trained.get("subset") else whole
    except CxrPairError as error:
        raise PanelError("its training side cannot be found again: its subset does not fit this cohort") from error
    found = cohort.take(split.within(cohort).train_rows)
    expected = trained["radiographs"] + trained.get("unreadable", 0)
    if len(found) != expected:
        raise PanelError(
            f"its training side cannot be found again: {len(found)} radiographs, and the card says {expected}"
        )
    return found


def count(cohort: Cohort, rule: PairCriterion, finding: str) -> dict[str, Any]:
    """Count one rule.

    Args:
        cohort: the training side.
        rule: the pairing rule.
        finding: whose agreement is counted; as in the census, 1 and -1 are carried, 0 and missing are not.

    Returns:
        `rule` and `meaning` as text; `radiographs`; `queries`; `mean_size` and `largest` of S_c(x); `with_partner`:
        the share that has a candidate other than itself; `self_pair_rate`: the expected share of queries drawn with
        themselves; `agreement`: of a query and a drawn candidate, over those with a candidate (None where nobody has
        one); `agreement_by_chance`: of two radiographs drawn at random.
    """
    index = build_index(cohort, rule)
    carried = finding_codes(cohort.labels(finding))
    found = rule_figures(index, {finding: carried}, require_partner=rule.require_partner)
    mismatch = found["mismatch_rate"][finding]
    sizes = index.sizes
    n, k = len(carried), int(carried.sum())
    return {
        "rule": str(rule),
        "meaning": meaning({"study": rule.study, "laterality": rule.laterality}),
        "oracle": rule.oracle_same_finding,
        "include_self": rule.include_self and not rule.excludes_self,
        "radiographs": n,
        "queries": int((sizes > 0).sum()) if rule.require_partner else n,
        "mean_size": found["mean_size"],
        "largest": found["largest"],
        "with_partner": float(np.mean(sizes - index.holds_self > 0)),
        "self_pair_rate": found["self_pair_rate"],
        "agreement": None if mismatch is None else 1.0 - mismatch,
        # Without replacement: a radiograph is no partner of itself here.
        "agreement_by_chance": (k * (k - 1) + (n - k) * (n - k - 1)) / (n * (n - 1)) if n > 1 else None,
    }


def affinity_words(affinity: Affinity | None) -> str:
    """How strongly partners attract, in words."""
    if affinity is None:
        return "every drawn partner attracts in full; no other is sought"
    if affinity.kernel == "step":
        days, studies = f"{affinity.cutoff_days:g} days", f"{affinity.cutoff_studies:g} studies"
        kernel = f"in full up to {days} apart ({studies} where dates are missing), not at all beyond"
    elif affinity.kernel == "exponential":
        days, studies = f"{affinity.half_life_days:g} days", f"{affinity.half_life_studies:g} studies"
        kernel = f"half as much with every {days} ({studies} where dates are missing) between the studies"
    else:
        kernel = "by a measured table of the time between the studies"
    words = [f"in full within a study; else {kernel}"]
    if affinity.other_laterality < 1:
        words.append(f"frontal with lateral {affinity.other_laterality:g} of that")
    if affinity.other_view < 1:
        words.append(f"other view positions (AP with PA) {affinity.other_view:g} of that")
    words.append(f"below {affinity.threshold:g} neither attracted nor repelled")
    other = "attracted by the same measure" if affinity.in_queue else "not sought"
    return "; ".join([*words, f"the patient’s other radiographs in the queue are {other}"])
