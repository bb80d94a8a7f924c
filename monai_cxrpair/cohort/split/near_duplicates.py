"""Which radiographs are nearly the same picture, and which patients do they link?

The same picture under two patient ids (two exports, two case reports) would stand on both sides of a split. It is
found by the column `perceptual_hash`, which `imaging.perceptual` makes: signs of the 24 x 24 lowest DCT coefficients,
the 8 x 8 lowest of them first. Near-duplicates are two pictures of which few enough bits differ, in that first word
and in all.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.errors import CxrPairError

COLUMN = "perceptual_hash"
WORDS = 9  # of 64 bits
DIGITS = 16 * WORDS
# Measured on 2,548 real radiographs (near_duplicates.csv; tests/imaging/test_perceptual.py): all 19 listed pairs are
# within 41 bits, resizing, JPEG and contrast cost up to 83 of 575, and of 3.2 million pairs of different patients
# the nearest that is not the same picture has 167. Prolonged by its own slope, the tail of these pairs has less than
# one within 100 bits among the 5,000,000,000 pairs of 100,000 radiographs.
MAX_DISTANCE = 100
MAX_COARSE = 14  # of the 63 bits of the first word; 1.5 % of unlike pairs get past it, so the rest is rarely looked at
_ROWS, _COLUMNS = 128, 8192  # a block of the comparison stays in the processor's cache


@dataclass(frozen=True, kw_only=True)
class Links:
    """Which patients belong together because they share a picture.

    Attributes:
        groups: int64 (radiographs,), a number for each group of patients; most groups are one patient.
        pairs: int64 (P, 2), rows that are near-duplicates; of pictures with equal hashes each with the first only.
        digest: `hash_digest` of the cohort: tells whether the links may have changed.
        unknown: Radiographs without a hash, which cannot be compared.
        linked_patients: Patients in groups of two and more.
        linked_groups: How many such groups there are.
        largest: Patients in the largest group.
    """

    groups: npt.NDArray[np.int64] = field(repr=False)
    pairs: npt.NDArray[np.int64] = field(repr=False)
    digest: str
    unknown: int
    linked_patients: int
    linked_groups: int
    largest: int


def hash_digest(cohort: Cohort) -> str:
    """SHA-256 over image ids, perceptual hashes and how far two may differ; empty where the cohort has no hash."""
    table = cohort.table
    if COLUMN not in table or not table[COLUMN].fillna("").any():
        return ""
    listed = "\n".join((table["image_id"] + " " + table[COLUMN].fillna("")).tolist())
    return hashlib.sha256(f"{MAX_DISTANCE} {MAX_COARSE}\n{listed}".encode()).hexdigest()


def find_links(cohort: Cohort) -> Links:
    """Find the near-duplicates of a cohort, and the patients they link, directly or over others.

    Args:
        cohort: The radiographs; without the column `perceptual_hash` every patient is a group of their own.

    Returns:
        The groups.

    Raises:
        CxrPairError: A hash is not one of this package's.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    digest = hash_digest(cohort)
    patients = cohort.codes("patient_id")
    pairs = np.empty((0, 2), dtype=np.int64)
    unknown = len(cohort)
    if digest:
        hashes = cohort.table[COLUMN].fillna("")
        unknown = int((hashes == "").sum())
        pairs = near_duplicate_pairs(hashes)
    count = int(patients.max()) + 1
    one, other = patients[pairs[:, 0]], patients[pairs[:, 1]]
    graph = coo_array((np.ones(len(pairs)), (one, other)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    sizes = np.bincount(group)
    return Links(
        groups=group[patients].astype(np.int64),
        pairs=pairs,
        digest=digest,
        unknown=unknown,
        linked_patients=int(sizes[sizes > 1].sum()),
        linked_groups=int((sizes > 1).sum()),
        largest=int(sizes.max()),
    )


def near_duplicate_pairs(hashes: pd.Series) -> npt.NDArray[np.int64]:
    """Find all pairs of near-duplicates; none is missed, every pair of different hashes is compared.

    Args:
        hashes: One text per row: hexadecimal, empty where it is unknown.

    Returns:
        int64 (P, 2), positions of the rows, the lower first, sorted. Rows with equal hashes are paired with the first
        of them only, so that a thousand copies of one picture make 999 pairs.

    Raises:
        CxrPairError: A text is not a hash.
    """
    texts = hashes.to_numpy(dtype=object)
    known = np.flatnonzero(texts != "")
    codes, different = pd.factorize(texts[known])
    first = known[np.unique(codes, return_index=True)[1]]  # row of each different hash
    copies = known[first[codes] != known]
    same = np.stack([first[codes[first[codes] != known]], copies], axis=1)
    found = first[_compare(_parse(different))]
    pairs = np.concatenate([same, np.sort(found, axis=1)]).astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _parse(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.uint64]:
    """Hexadecimal texts as uint64 (n, WORDS)."""
    try:
        if any(len(text) != DIGITS for text in texts):
            raise ValueError
        data = bytes.fromhex("".join(texts))
    except (TypeError, ValueError) as error:
        raise CxrPairError(
            f"cohort column {COLUMN!r}: a hash has {DIGITS} hexadecimal digits; make it again with "
            "`cxrpair index --check-pixels`"
        ) from error
    return np.frombuffer(data, dtype=">u8").reshape(-1, WORDS).astype(np.uint64)


def _compare(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Positions (P, 2) of the near-duplicates among different hashes uint64 (n, WORDS)."""
    coarse = np.ascontiguousarray(words[:, 0])
    found = [np.empty((0, 2), dtype=np.int64)]
    for top in range(0, len(words), _ROWS):
        rows = coarse[top : top + _ROWS, None]
        for left in range(top, len(words), _COLUMNS):
            near = np.bitwise_count(rows ^ coarse[None, left : left + _COLUMNS]) <= MAX_COARSE
            one, other = np.divmod(np.flatnonzero(near), near.shape[1])
            one, other = one + top, other + left
            one, other = one[other > one], other[other > one]
            distance = np.bitwise_count(words[one] ^ words[other]).sum(axis=1, dtype=np.int64)
            close = distance <= MAX_DISTANCE
            if close.any():
                found.append(np.stack([one[close], other[close]], axis=1))
    return np.concatenate(found)
