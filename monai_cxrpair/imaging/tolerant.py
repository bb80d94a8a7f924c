"""A dataset for folders that nobody has sorted: what is no radiograph becomes a row with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.data import Dataset, MetaTensor

from monai_cxrpair.imaging.cache import reading_error


class TolerantDataset(Dataset):
    """As MONAI's `Dataset`, but a file that cannot be read does not end the run.

    Its item has a black image and the reason under `error`; for the others `error` is empty. Whoever uses the items
    must look at it.

    Args:
        data: MONAI's data list, `{"image": path, "image_id": id}`.
        transform: ends in (1, S, S) under `image`.
        image_size: S, of the black images.
    """

    def __init__(self, data: Sequence[Mapping[str, str]], transform: Callable[..., Any], *, image_size: int) -> None:
        super().__init__(data=data, transform=transform)
        self.image_size = image_size

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        try:
            return {**super()._transform(index), "error": ""}
        except Exception as error:
            reason = reading_error(error, path=item["image"])
            if reason is None:
                raise
            black = MetaTensor(torch.zeros(1, self.image_size, self.image_size))
            return {**item, "image": black, "error": reason}
