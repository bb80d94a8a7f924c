"""MONAI transforms for radiographs, so that a bundle's preprocessing is a readable list."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import read_radiograph_with_info


class LoadRadiographd(MapTransform):
    """Replace file names by radiographs: `MetaTensor` float32 (1, H, W) in [0, 1], rows first.

    Not MONAI's `LoadImaged`: that one swallows a reader's error and then returns raw pixels from another reader,
    without polarity or window. Here an unreadable file is a `CxrPairError` that names it. Arrays that are already
    loaded (a client that posts pixels) are checked and passed on.

    Args:
        keys: of the file names.
        allow_missing_keys: as in every MONAI dictionary transform.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every key; the meta data say how pixels were scaled, whether inverted, what turned, and how many."""
        out = dict(data)
        for key in self.key_iterator(out):
            if isinstance(out[key], (np.ndarray, torch.Tensor)):
                out[key] = _checked_array(out[key], key)
                continue
            pixels, info = read_radiograph_with_info(out[key])
            meta = {
                "filename_or_obj": str(out[key]),
                "scaling": info.scaling,
                "inverted": info.inverted,
                "orientation": info.orientation,
                "stored_shape": list(pixels.shape[1:]),
            }
            out[key] = MetaTensor(torch.from_numpy(pixels), meta=meta)
        return out


class ResizeShorterSided(MapTransform):
    """Resize radiographs so that the shorter side is `size` pixels; the aspect is kept (paper: Resize(320)).

    Shrinks by area averaging, which does not alias ribs into moiré; grows bilinearly.

    Args:
        keys: of float (1, H, W) radiographs in [0, 1].
        size: of the shorter side, in pixels.
        allow_missing_keys: as in every MONAI dictionary transform.
    """

    def __init__(self, keys: KeysCollection, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not isinstance(size, int) or size < 8:
            raise CxrPairError(f"image_size is {size!r}: use a whole number of pixels, at least 8")
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize every key; the longer side is rounded and never falls below `size`."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = out[key]
            height, width = image.shape[-2:]
            scale = self.size / min(height, width)
            if scale == 1.0:
                continue
            shape = max(self.size, round(width * scale)), max(self.size, round(height * scale))  # cv2: (W, H)
            pixels = np.ascontiguousarray(np.asarray(image, dtype=np.float32)[0])
            resized = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            tensor = torch.from_numpy(resized[None])
            out[key] = MetaTensor(tensor, meta=image.meta) if isinstance(image, MetaTensor) else tensor
        return out


def _checked_array(value: Any, key: Hashable) -> MetaTensor:
    tensor = torch.as_tensor(value, dtype=torch.float32)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or tensor.shape[0] != 1 or not 0.0 <= float(tensor.min()) <= float(tensor.max()) <= 1.0:
        raise CxrPairError(f"{key}: an array of shape {tuple(tensor.shape)} is no radiograph (1, H, W) in [0, 1]")
    return tensor if isinstance(tensor, MetaTensor) else MetaTensor(tensor)
