"""Embeddings kept on disk: an encoder that has not changed is not run over the same radiographs again.

One file for an encoder and a list of radiographs, `<key>.npz`: the features and a card with their checksum. The key is
a hash of the weights, of the network's structure and source code, of the normalisation, of the pixels in row order, and
of what else a rounding error may depend on (torch, kind of device). Pixels, not paths: a file that was replaced is
another one, whatever its name and date, and nothing in the folder names a radiograph or a patient.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader

from monai_cxrpair import __version__
from monai_cxrpair.cohort.files import atomic_path, check_folder
from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.evaluation.embed import embed
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.imaging.cache import RadiographCacheDataset

logger = logging.getLogger(__name__)

FORMAT = "cxrpair-embeddings/1"
_BATCH = 256  # radiographs hashed at a time: 13 MB at 224 pixels


def embed_once(
    encoders: Mapping[str, FrozenEncoder],
    loader: DataLoader[Any],
    *,
    device: torch.device | str,
    folder: str | Path | None,
) -> dict[str, npt.NDArray[np.float32]]:
    """The features of every radiograph under every encoder, from the folder where they are there.

    Args:
        encoders: name -> encoder.
        loader: batches of a `RadiographCacheDataset`, not shuffled.
        device: to compute on.
        folder: where embeddings are kept, made where it is not there; None: nowhere.

    Returns:
        Name -> float32 (N, F), in the dataset's row order: bit for bit what `embed` gave.

    Raises:
        CxrPairError: the folder cannot be written to.
    """
    dataset: RadiographCacheDataset = loader.dataset  # type: ignore[assignment]
    if folder is None:
        logger.info("embedding %d radiographs with %d encoders", len(dataset), len(encoders))
        return embed(encoders, loader, device=device)
    check_folder(Path(folder), what=f"embedding_dir {folder}")
    pixels = pixels_hash(dataset)
    paths = {name: Path(folder) / f"{_key(encoder, pixels, device)}.npz" for name, encoder in encoders.items()}
    found = {name: read_features(path, rows=len(dataset)) for name, path in paths.items()}
    reused = {name: features for name, features in found.items() if features is not None}
    missing = {name: encoder for name, encoder in encoders.items() if name not in reused}
    logger.info(
        "embeddings of %d radiographs in %s: %s reused; %s computed now",
        len(dataset), folder, ", ".join(reused) or "none", ", ".join(missing) or "none",
    )  # fmt: skip
    for name in reused:  # as `embed` leaves the others
        channels_last(encoders[name].network.eval().to(device))
    if missing:
        reused |= embed(missing, loader, device=device)
        for name in missing:
            write_features(paths[name], reused[name])
    return {name: reused[name] for name in encoders}


def pixels_hash(dataset: RadiographCacheDataset) -> str:
    """A hash of what the encoders see: the square views in row order (about 1 GB/s)."""
    digest = hashlib.sha256(f"{len(dataset)} {dataset.image_size}".encode())
    for start in range(0, len(dataset), _BATCH):
        batch = dataset.__getitems__(range(start, min(start + _BATCH, len(dataset))))
        digest.update(np.ascontiguousarray(batch["image"]).data)
    return digest.hexdigest()


def network_hash(network: nn.Module) -> str:
    """A hash of a network's weights, structure and source code; where it lies and how it is trained has no part in it.

    Changed code outside the files of the network's own classes is not seen, except by the version of the package.
    """
    digest = hashlib.sha256(repr(network).encode())
    sources = {_source(type(module)) for module in network.modules()}
    digest.update("".join(sorted(sources)).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _source(kind: type) -> str:
    """Of the file that a class was written in; its name where it has none (a notebook, a compiled class)."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return f"{kind.__module__}.{kind.__qualname__}"


def _key(encoder: FrozenEncoder, pixels: str, device: torch.device | str) -> str:
    parts = [FORMAT, __version__, torch.__version__, torch.device(device).type, repr((encoder.mean, encoder.std))]
    return hashlib.sha256("\0".join([*parts, pixels, network_hash(encoder.network)]).encode()).hexdigest()[:32]


def write_features(path: Path, features: npt.NDArray[np.float32]) -> None:
    """Write them with their card, at once or not at all, for the owner only; the name of the file is their key."""
    card = {"format": FORMAT, "key": path.stem, "shape": features.shape, "sha256": _checksum(features)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:  # a name would get another suffix
        np.savez(file, features=features, card=np.array(json.dumps(card)))


def read_features(path: Path, *, rows: int) -> npt.NDArray[np.float32] | None:
    """The features; None where there are none, or, with a warning, damaged ones."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            features: npt.NDArray[np.float32] = stored["features"]
            card = json.loads(str(stored["card"]))
        expected = {"shape": [rows, features.shape[-1]], "sha256": _checksum(features)}
        whole = card == {"format": FORMAT, "key": path.stem, **expected}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
        whole = False
    if not whole:
        logger.warning("embeddings: %s is damaged; they are computed anew", path)
        return None
    return features


def _checksum(features: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(features).data).hexdigest()
