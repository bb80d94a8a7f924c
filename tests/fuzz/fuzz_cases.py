"""Which file is mutated how: everything follows from the seed and the number."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random

import mutate_archives
import mutate_dicom
import mutate_parquet
import mutate_pictures
import mutate_raw
import mutate_text
from fuzz_base import Base

Mutation = Callable[[bytes, Random], bytes]
# Share of each kind among the cases; DICOM is what most of a user's files are.
KINDS = {
    **{"dicom": 50, "export": 2, "picture": 7, "nifti": 3, "nifti.gz": 1, "zip": 3, "tar": 2, "tar.gz": 1},
    **{"table": 7, "table.gz": 1, "xlsx": 1, "parquet": 3, "labels": 3, "cohort": 4, "split": 3, "sweep": 3},
    **{"overlay": 2, "affinity": 1, "card": 3, "accessions": 0.3},
}
_INSIDE: Mutation = mutate_archives.dicom_inside
MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "dicom": mutate_dicom.MUTATIONS,
    "export": mutate_dicom.MUTATIONS,
    "picture": (mutate_pictures.picture,),
    "nifti": (mutate_pictures.nifti,),
    "nifti.gz": (partial(mutate_raw.gzipped, inner=mutate_pictures.nifti),),
    "zip": (partial(mutate_archives.zipped, inner=_INSIDE),),
    "tar": (partial(mutate_archives.tarred, inner=_INSIDE),),
    "tar.gz": (partial(mutate_raw.gzipped, inner=partial(mutate_archives.tarred, inner=_INSIDE)),),
    "table": (mutate_text.text_table,),
    "table.gz": (partial(mutate_raw.gzipped, inner=mutate_text.text_table),),
    "xlsx": (partial(mutate_archives.zipped, inner=mutate_raw.raw),),
    "parquet": (mutate_parquet.parquet,),
    "labels": (mutate_text.text_table,),
    "cohort": (mutate_parquet.parquet,),
    **dict.fromkeys(("split", "affinity", "card"), (mutate_text.json_text,)),
    **dict.fromkeys(("sweep", "overlay"), (mutate_text.yaml_text,)),
    "accessions": (mutate_raw.raw,),
}
SEVERAL = ("dicom", "export")  # kinds whose mutations can follow each other


@dataclass(frozen=True)
class Case:
    """A mutated file.

    Attributes:
        number: with the seed it says all.
        kind: of the base.
        base: the name of the base.
        mutations: what was done to it.
        data: what came out.
    """

    number: int
    kind: str
    base: str
    mutations: tuple[str, ...]
    data: bytes


class Cases:
    """All cases of a seed.

    Args:
        bases: what is mutated.
        seed: any number.
    """

    def __init__(self, bases: list[Base], seed: int) -> None:
        self.seed = seed
        self._bases = {kind: [base for base in bases if base.kind == kind.replace("export", "dicom")] for kind in KINDS}
        self._kinds = [kind for kind in KINDS if self._bases[kind]]

    def kind(self, number: int) -> str:
        """The kind of a case, without making it."""
        return self._choose(number)[1]

    def case(self, number: int) -> Case:
        """Make a case."""
        rng, kind = self._choose(number)
        base = rng.choices(self._bases[kind], [base.weight for base in self._bases[kind]])[0]
        times = rng.choice((1, 1, 1, 2, 2, 3)) if kind in SEVERAL else 1
        done, data = [], base.data
        for _ in range(times):
            mutation = rng.choice(MUTATIONS[kind])
            done.append(getattr(mutation, "func", mutation).__name__)  # type: ignore[union-attr]
            with suppress(struct.error):  # two mutations may not go together
                data = mutation(data, rng)
        return Case(number, kind, base.name, tuple(done), data)

    def _choose(self, number: int) -> tuple[Random, str]:
        rng = Random(f"{self.seed}/{number}")
        return rng, rng.choices(self._kinds, [KINDS[kind] for kind in self._kinds])[0]
