"""What pairing rules do in a cohort, counted before anything is trained: every figure is exact, none is sampled."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.candidates import build_index, require_patients
from monai_cxrpair.pairing.census_distance import by_distance
from monai_cxrpair.pairing.criterion import PairCriterion, Relation
from monai_cxrpair.pairing.index import CandidateIndex, Ints
from monai_cxrpair.pairing.properties import finding_codes
from monai_cxrpair.pairing.queue_size import expected_relatives

BINS = 18  # of the share of candidates that disagree, as in the paper's Figure 2
# Names of the buckets and the largest size that is still in them; what is above is in the last one.
SIZES = {"0": 0, "1": 1, "2": 2, "3 to 5": 5, "6 to 10": 10, "11 to 20": 20}
LARGER = "more than 20"


def census(
    cohort: Cohort,
    *,
    queue_size: int,
    further: Sequence[tuple[str, PairCriterion | None]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Count what the nine rules study x laterality do, and the user's own.

    A radiograph carries a finding where the table says 1 or -1, and does not where it says 0 or nothing.

    Args:
        cohort: The radiographs.
        queue_size: K, the keys that the queue would hold.
        further: Names and rules; None is plain MoCo, every radiograph with itself.
        progress: Called with how many of the rules are counted, and how many there are.

    Returns:
        `source`, `fingerprint`, `radiographs`, `patients`, `studies`, and `findings` as in `Cohort.summary`;
        `rules`, as `rule_figures` has them, with `study`, `laterality` and `include_self`; `further`, the same of
        those rules with `name`, `settings` and their `text`; `figure_2`; `by_distance`; and `queue`: `size`, and for
        `patient` and `study` how many keys of the query's own are `expected` in it and which `share` of the queries
        meets at least one (`expected_relatives`), or None where the queue is no smaller than the cohort; training
        refuses that.

        `figure_2` counts, as the paper's does, the radiographs with at least one other study by the share of their
        candidates that disagrees, in 18 equal bins on [0, 1]: for each finding under `all_studies` (the query among
        its candidates) and `distinct_studies`.

    Raises:
        CxrPairError: The cohort has no patient ids.
    """
    require_patients(cohort)
    carried = {name: finding_codes(cohort.table[name]) for name in cohort.findings}
    rules: list[dict[str, Any]] = []
    for study, laterality in product(get_args(Relation), repeat=2):
        for include_self in (False, True):
            criterion = PairCriterion(study=study, laterality=laterality, include_self=include_self)
            # Where a property is distinct, include_self changes nothing.
            again = include_self and criterion.excludes_self
            figures = rules[-1] if again else rule_figures(build_index(cohort, criterion), carried)
            rules.append({**figures, "study": study, "laterality": laterality, "include_self": include_self})
            if progress is not None:
                progress(len(rules), 2 * 3 * 3)
    queue: dict[str, Any] = {"size": queue_size}
    for name in ("patient", "study"):
        if queue_size < len(cohort):
            expected, share = expected_relatives(cohort.codes(f"{name}_id"), queue_size)
            queue[name] = {"expected": expected, "share": share}
        else:  # the queue would hold the query itself
            queue[name] = None

    def rates(index: CandidateIndex, rows: Ints) -> dict[str, float | None]:
        return {name: mean_share(*disagreement(index, values[rows])) for name, values in carried.items()}

    summary = cohort.summary()
    return {
        "source": cohort.source,
        "fingerprint": cohort.fingerprint(),
        **{name: summary[name] for name in ("radiographs", "patients", "studies")},
        "findings": summary["findings"],
        "rules": rules,
        "further": [_further(cohort, name, rule, carried) for name, rule in further],
        "figure_2": _figure_2(cohort, carried),
        "by_distance": by_distance(cohort, rates),
        "queue": queue,
    }


def shown_finding(cohort: Cohort, name: str | None) -> str | None:
    """The finding of the pictures: the one asked for, else `pleural_effusion`, else the first; None without findings.

    Raises:
        CxrPairError: The cohort has no such finding.
    """
    if name is not None and name not in cohort.findings:
        raise CxrPairError(f"--finding {name}: the cohort has {', '.join(cohort.findings) or 'no finding'}")
    return name or next((known for known in ("pleural_effusion", *cohort.findings) if known in cohort.findings), None)


def rule_figures(
    index: CandidateIndex, carried: Mapping[str, Ints], *, require_partner: bool = False
) -> dict[str, Any]:
    """Count one rule.

    Args:
        index: The candidates.
        carried: Finding -> 1 where a radiograph carries it, else 0, shape (N,).
        require_partner: Radiographs without candidate are then no queries.

    Returns:
        `empty_fraction`, `with_partner`, `largest`, `mean_size` of S_c(x); `sizes`: radiographs by |S_c(x)|;
        `self_pair_rate`: the expected share of queries drawn with themselves, by choice or for want of a candidate
        (None without a query); by finding `mismatch_rate`: over the radiographs with a candidate the mean share of
        candidates that disagree (None where there is none), and `disagreement`: those radiographs by that share, in
        18 equal bins on [0, 1].
    """
    sizes = index.sizes
    with_candidate = sizes > 0
    itself = np.where(with_candidate, index.holds_self / np.maximum(sizes, 1), 1.0)
    queries = itself[with_candidate] if require_partner else itself
    where = np.searchsorted(list(SIZES.values()), sizes, side="left")
    shares = {name: disagreement(index, values) for name, values in carried.items()}
    return {
        "empty_fraction": float(np.mean(~with_candidate)),
        "with_partner": int(with_candidate.sum()),
        "largest": int(sizes.max()),
        "mean_size": float(sizes.mean()),
        "self_pair_rate": float(queries.mean()) if len(queries) else None,
        "mismatch_rate": {name: mean_share(*share) for name, share in shares.items()},
        "sizes": dict(zip([*SIZES, LARGER], np.bincount(where, minlength=len(SIZES) + 1).tolist(), strict=True)),
        "disagreement": {name: histogram(*share) for name, share in shares.items()},
    }


def disagreement(index: CandidateIndex, values: Ints) -> tuple[Ints, Ints]:
    """How many candidates of x differ from x in `values` (1 or 0), and how many there are; of each x with one."""
    sizes, carriers = index.sizes, index.totals(values)
    some = sizes > 0
    return np.where(values == 1, sizes - carriers, carriers)[some], sizes[some]


def mean_share(differing: Ints, sizes: Ints) -> float | None:
    """The mean over x of the share of its candidates that differ; None where there is no x."""
    return float((differing / sizes).mean()) if len(sizes) else None


def histogram(differing: Ints, sizes: Ints, kept: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Count x by share in 18 equal bins on [0, 1], the last one closed; in whole numbers, so no edge is rounded."""
    bins = np.minimum(BINS * differing // sizes, BINS - 1)
    return [int(count) for count in np.bincount(bins if kept is None else bins[kept], minlength=BINS)]


def _figure_2(cohort: Cohort, carried: Mapping[str, Ints]) -> dict[str, Any]:
    indices = {
        "all_studies": build_index(cohort, PairCriterion(include_self=True)),
        "distinct_studies": build_index(cohort, PairCriterion(study="distinct")),
    }
    base = indices["distinct_studies"].sizes > 0  # the x with another study
    found: dict[str, Any] = {"radiographs": int(base.sum()), "findings": {}}
    for name, values in carried.items():
        found["findings"][name] = {
            rule: histogram(*disagreement(index, values), kept=base[index.sizes > 0]) for rule, index in indices.items()
        }
    return found


def _further(cohort: Cohort, name: str, rule: PairCriterion | None, carried: Mapping[str, Ints]) -> dict[str, Any]:
    if rule is not None:
        figures = rule_figures(build_index(cohort, rule), carried, require_partner=rule.require_partner)
        return {"name": name, "settings": rule.as_dict(), "text": str(rule), **figures}
    # Plain MoCo: nobody has a candidate.
    n = len(cohort)
    index = CandidateIndex(
        order=np.arange(0), bounds=np.zeros((n, 4), dtype=np.int64), holds_self=np.zeros(n, dtype=np.bool_)
    )
    return {"name": name, "settings": None, "text": "null (plain MoCo)", **rule_figures(index, carried)}
