"""The embeddings of one encoder, radiograph by radiograph: a table on disk that grows with the studies.

The evaluation keeps those of a whole cohort in one file (`evaluation/embedding_store.py`), which one more study would
make worthless. The rows are found by a hash of the pixels, the file by a hash of the encoder; neither names a patient.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from monai_cxrpair import __version__
from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.evaluation.embedding_store import network_hash
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.label.lock import locked

logger = logging.getLogger(__name__)

FORMAT = "cxrpair-embedding-table/1"


def encoder_key(encoder: FrozenEncoder, device: torch.device | str) -> str:
    """A hash of all that an embedding depends on beside the pixels."""
    parts = [FORMAT, __version__, torch.__version__, torch.device(device).type, repr((encoder.mean, encoder.std))]
    return hashlib.sha256("\0".join([*parts, network_hash(encoder.network)]).encode()).hexdigest()[:32]


def pixel_key(square: npt.NDArray[np.uint8]) -> bytes:
    """A hash of what the encoder sees of a radiograph, 16 bytes."""
    return hashlib.sha256(f"{square.shape}".encode() + np.ascontiguousarray(square).tobytes()).digest()[:16]


class EmbeddingTable:
    """Pixel hash -> embedding (F,), in memory and in `<folder>/<key>.npz`.

    Several processes may add to it: each writes what the others have written, too. Damage is found by the checksums of
    the zip file; the embeddings are computed anew then.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key}.npz"
        self._lock, self._rows = threading.Lock(), self._read()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, pixels: bytes) -> npt.NDArray[np.float32] | None:
        """The embedding of a radiograph; None where it is not known."""
        return self._rows.get(pixels)

    def add(self, found: dict[bytes, npt.NDArray[np.float32]]) -> None:
        """Keep embeddings.

        Raises:
            CxrPairError: they cannot be written.
        """
        if not found:
            return
        with self._lock, locked(self.path.with_suffix(".lock")):
            rows = {**self._read(), **self._rows, **found}
            with atomic_path(self.path) as temporary, temporary.open("wb") as file:
                keys = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), 16)
                np.savez(file, keys=keys, features=np.stack(list(rows.values())))
            self._rows = rows

    def _read(self) -> dict[bytes, npt.NDArray[np.float32]]:
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                keys, features = stored["keys"], stored["features"]
            return {key.tobytes(): row for key, row in zip(keys, features, strict=True)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            logger.warning("embeddings: %s is damaged; they are computed anew", self.path)
            return {}
