"""The dataset of query/key pairs: a MONAI `CacheDataset` that knows the metadata."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment import Augmentation
from monai_cxrpair.imaging.augment_device import pack_sources, views_on_device
from monai_cxrpair.imaging.augment_monai import make_augmentation
from monai_cxrpair.imaging.cache import RadiographCacheDataset
from monai_cxrpair.pairing import Affinity, PairCriterion, PairSampler, metadata_codes
from monai_cxrpair.pairing.candidates import require_patients
from monai_cxrpair.pairing.codes import CODES

logger = logging.getLogger(__name__)


class PairCacheDataset(RadiographCacheDataset):
    """Returns pairs of cached radiographs, drawn and augmented afresh in every epoch.

    Random numbers belong to (seed, epoch, rows of the batch), not to a process: the same seed gives the same pairs
    and views whatever the number of workers, and no two epochs or batches repeat each other's.

    Args:
        cohort: the radiographs; item i of the dataset is the query `queries[i]`.
        pairing: the `pairing` section of a config (see `PairCriterion`), or None for plain MoCo.
        augmentation: the `augmentation` section of a config (see `Augmentation`), or a MONAI transform.
        views_on: where views are made: `cpu`, here; `device`, so that batches carry what `make_views` needs there; or
            `auto`, which of them suits `device`.
        device: that trains.
        keys: K, keys per query.
        affinity: the `affinity` section of a config (see `Affinity`), or None: every key counts 1.
        seed: of pairs and views.
        transform, image_size, num_workers, max_unreadable, cache_dir: see `RadiographCacheDataset`.

    Attributes:
        with_partner: the share of the radiographs that have a candidate other than themselves.
        queries: the rows of `self.cohort` that are queries: all, or with `require_partner` those with a candidate. The
            length of the dataset is theirs, so that loaders and samplers go over nothing else.

    Raises:
        CxrPairError: a setting out of range; a rule for a cohort without patient ids; more unreadable radiographs
            than allowed.
    """

    def __init__(
        self,
        cohort: Cohort,
        *,
        transform: Callable[..., Any],
        pairing: Mapping[str, Any] | None,
        augmentation: Mapping[str, Any] | Callable[..., Any],
        image_size: int,
        keys: int = 1,
        affinity: Mapping[str, Any] | None = None,
        seed: int = 0,
        views_on: str = "cpu",
        device: torch.device | str = "cpu",
        num_workers: int | None = None,
        max_unreadable: float = 0.01,
        cache_dir: str | Path | None = None,
    ) -> None:
        criterion = PairCriterion.from_config(pairing)  # before the images are read: a typing mistake shows at once
        if criterion is not None:
            require_patients(cohort)
        self.affinity = Affinity.from_config(affinity)
        if self.affinity is not None and not cohort.patients_known:
            raise CxrPairError(f"the {cohort.source} cohort has no patient ids to find positives by: set affinity null")
        if isinstance(keys, bool) or not isinstance(keys, int) or keys < 1:
            raise CxrPairError(f"keys_per_query is {keys!r}: use a whole number of at least 1")
        self.augmentation = make_augmentation(augmentation)
        self.threaded = isinstance(self.augmentation, Augmentation)
        self.views_on_device = views_on_device(views_on, device=device, augmentation=self.augmentation)
        self.keys, self.seed = keys, seed
        # Shared memory, so that persistent workers see the epoch that the trainer sets.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        super().__init__(
            cohort,
            transform=transform,
            image_size=image_size,
            num_workers=num_workers,
            max_unreadable=max_unreadable,
            cache_dir=cache_dir,
        )
        self.sampler = PairSampler(self.cohort, criterion, seed=seed)
        self.queries = self.sampler.queries
        self.with_partner = float((self.sampler.partners > 0).mean())
        if criterion is not None:
            logger.log(
                logging.INFO if self.with_partner else logging.WARNING,
                "%.1f %% of %d radiographs have a partner under %s; %s%s",
                100 * self.with_partner, len(self.cohort), criterion,
                f"{len(self)} are queries" if criterion.require_partner else "the others are paired with themselves",
                "" if self.with_partner else ": pairing#study any finds more",
            )  # fmt: skip
        self._codes = metadata_codes(self.cohort)

    def __len__(self) -> int:
        return len(self.queries)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of this epoch; the trainer calls it before each."""
        self._epoch[0] = epoch

    def __getitems__(self, indices: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """A batch of pairs; torch's loader calls it with all the item numbers of a batch.

        Returns:
            `query` uint8 (B, 1, S, S), `key` uint8 (B, K, 1, S, S), `affinity` float32 (B, K), and int64:
            `row`, `patient`, `study` (B,) of the query, `key_row` (B, K), and `codes` (B, 1 + K, C), the metadata of
            the query and of its keys, columns as in `pairing.codes.CODES`. With views made on the device, the parts of
            `pack_sources` stand for `query` and `key`.
        """
        rows = self.queries[np.asarray(indices, dtype=np.int64)]
        rng = np.random.default_rng([self.seed, int(self._epoch[0]), *rows.tolist()])
        key_rows, affinity = self.sampler.draw(rows, self.keys, rng=rng)
        codes = self._codes[np.concatenate([rows[:, None], key_rows], axis=1)]  # (B, 1 + K, C)
        if self.affinity is not None:
            affinity = self.affinity(codes[:, :1], codes[:, 1:]).astype(np.float32)
        return {
            **self._views("query", rows, rng),
            **self._views("key", key_rows, rng),
            "affinity": affinity,
            "row": rows,
            "patient": codes[:, 0, CODES.index("patient")],
            "study": codes[:, 0, CODES.index("study")],
            "key_row": key_rows,
            "codes": codes,
        }

    def _views(self, name: str, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
        """The views of rows of any shape, or what `make_views` makes them from."""
        images = [self._cache[row] for row in rows.ravel().tolist()]
        if self.views_on_device and isinstance(self.augmentation, Augmentation):
            packed = pack_sources(images, self.augmentation.draw(len(images), rng), size=self.image_size)
            return {f"{name}_{part}": value.reshape(*rows.shape, *value.shape[1:]) for part, value in packed.items()}
        views = self.augmentation.views(images, rng, size=self.image_size)
        return {name: views.reshape(*rows.shape, *views.shape[1:])}
