"""How does a file become a tensor?

`read_radiograph` needs neither torch nor MONAI; the transforms and the dataset are imported when they are asked for.
"""

from typing import TYPE_CHECKING, Any

from monai_cxrpair.imaging.read import read_radiograph, read_radiograph_with_info

if TYPE_CHECKING:
    from monai_cxrpair.imaging.cache import RadiographCacheDataset, as_tensors
    from monai_cxrpair.imaging.loader import BatchLoader
    from monai_cxrpair.imaging.pairs import PairCacheDataset
    from monai_cxrpair.imaging.tolerant import TolerantDataset
    from monai_cxrpair.imaging.transforms import LoadRadiographd, ResizeShorterSided

_LAZY = {
    "BatchLoader": "loader",
    "PairCacheDataset": "pairs",
    "RadiographCacheDataset": "cache",
    "TolerantDataset": "tolerant",
    "as_tensors": "cache",
    "LoadRadiographd": "transforms",
    "ResizeShorterSided": "transforms",
}

__all__ = [
    "BatchLoader",
    "LoadRadiographd",
    "PairCacheDataset",
    "RadiographCacheDataset",
    "ResizeShorterSided",
    "TolerantDataset",
    "as_tensors",
    "read_radiograph",
    "read_radiograph_with_info",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
