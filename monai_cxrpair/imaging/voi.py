"""The value-of-interest stage of the DICOM pixel chain: modality output in, [0, 1] out (PS3.3 C.11.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError

Floats = npt.NDArray[np.float64]

WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def apply_window(values: Floats, *, center: float, width: float, function: str = "LINEAR") -> Floats:
    """One of the three window functions of PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: modality output, any shape.
        center: Window Center (0028,1050).
        width: Window Width (0028,1051): at least 1 for LINEAR, above 0 for the others.
        function: VOI LUT Function (0028,1056).

    Returns:
        Values in [0, 1], the shape of `values`.

    Raises:
        CxrPairError: a width or function that the standard does not allow.
    """
    if function not in WINDOW_FUNCTIONS:
        raise CxrPairError(f"VOI LUT Function is {function!r}: the standard knows {', '.join(WINDOW_FUNCTIONS)}")
    if width < 1 if function == "LINEAR" else width <= 0:
        raise CxrPairError(f"Window Width is {width:g}: too small for {function}")
    if function == "SIGMOID":
        # Written with tanh, since exp overflows far outside the window: 1/(1+exp(-z)) = (1+tanh(z/2))/2.
        return 0.5 * (1.0 + np.tanh(2.0 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def apply_voi_lut(values: Floats, item: Any) -> Floats:
    """One item of a VOI LUT Sequence (0028,3010): values below and above the table take its ends (C.11.2.1.1).

    Args:
        values: modality output, any shape.
        item: the pydicom Dataset of the sequence item.

    Returns:
        Values in [0, 1]: the lowest entry of the table is 0, the highest 1. Not the range of its bits: real tables
        of 12-bit entries often claim 16.

    Raises:
        CxrPairError: a table whose length is not what its descriptor says.
    """
    entries, first, _bits = (int(v) for v in item.LUTDescriptor)
    entries = entries or 65536  # 0 stands for 2^16 (C.11.2.1.1)
    data = item.LUTData
    if isinstance(data, bytes):
        # Entries of 8 bits may be packed, with a byte behind an odd number of them (PS3.5 7.1.1: lengths are even).
        packed = len(data) == entries + entries % 2
        data = np.frombuffer(data, dtype=np.uint8)[:entries] if packed else np.frombuffer(data, dtype="<u2")
    table = np.asarray(data, dtype=np.float64)
    low, high = (table.min(), table.max()) if len(table) else (0.0, 0.0)
    if len(table) != entries or low == high:
        raise CxrPairError(f"VOI LUT has {len(table)} entries from {low:g} to {high:g}, its descriptor says {entries}")
    # A negative first value may be written as an unsigned number (its VR was lost). It is one where the modality output
    # is negative somewhere, or where the table would otherwise end beyond 16 bits.
    if first > 32767 and (values.min() < 0 or first + entries > 65536):
        first -= 65536
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return np.asarray((table[index] - low) / (high - low))
