r"""Undo the flips and turns that the header declares: Patient Orientation (0020,0020), PS3.3 C.7.6.1.1.1.

Its two values say where a row (to the right) and a column (downwards) lead: to the patient's Left, Right, Head, Foot,
Anterior or Posterior. A frontal radiograph is displayed `L\F`, for PA and AP alike. A lateral is displayed `A\F` or
`P\F`: both are in use, by side and by department (Open-i: `A\F` 508, `P\F` 181), neither is a mistake, and turning all
to one would make left laterals look like right ones. So a lateral keeps its front where it is and only gets its feet
down.

Field of View Horizontal Flip (0018,7034) has no part: it tells what was done to the image on its way from the
detector, whereas Patient Orientation describes the image as stored (all 122 Open-i images with a flip declare `L\F`,
`A\F` or `P\F`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

AS_STORED = "as stored"
_AXES = {"L": "side", "R": "side", "A": "front", "P": "front", "H": "height", "F": "height"}
_OPPOSITE = {"H": "F", "R": "L"}  # the directions that no standard display has


class Turn(NamedTuple):
    r"""How an array gets to the standard display: rows and columns exchanged first, then reversed.

    `name` records it: `R\F to L\F`, or `as stored`.
    """

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False
    name: str = AS_STORED


def turn_for(declared: Sequence[str]) -> Turn:
    r"""Find out how to bring a radiograph to the standard display.

    Args:
        declared: the values of Patient Orientation: where the rows and the columns lead. Of an oblique direction
            (`LA`) the first letter, which the standard calls the principal one, decides.

    Returns:
        The turn; none where the values are empty or odd, or are no frontal or lateral (`R\A` is seen from above).
    """
    letters = [str(value).strip().upper()[:1] for value in declared]
    axes = [_AXES.get(letter, "") for letter in letters]
    if len(axes) != 2 or axes.count("height") != 1 or "" in axes:
        return Turn()
    transpose = axes[0] == "height"
    along_rows, along_columns = letters[::-1] if transpose else letters
    standard = [_OPPOSITE.get(letter, letter) for letter in (along_rows, along_columns)]
    if standard == letters:
        return Turn()
    return Turn(
        transpose=transpose,
        reverse_rows=standard[1] != along_columns,
        reverse_columns=standard[0] != along_rows,
        name=f"{letters[0]}\\{letters[1]} to {standard[0]}\\{standard[1]}",
    )


def apply_turn(pixels: npt.NDArray[Any], turn: Turn) -> npt.NDArray[Any]:
    """Turn an array (H, W); the result is a view of it."""
    if turn.transpose:
        pixels = pixels.T
    return pixels[:: -1 if turn.reverse_rows else 1, :: -1 if turn.reverse_columns else 1]
