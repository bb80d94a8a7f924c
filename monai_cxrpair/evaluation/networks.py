"""The network that a card speaks of, without running anything that a card says."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """What `build_encoder` is called with, and in words what kind of network that gives."""

    encoder: str | Mapping[str, Any]
    in_channels: int
    image_size: int
    kind: str

    def build(self) -> nn.Module:
        """A new network with random weights."""
        return build_encoder(self.encoder, in_channels=self.in_channels, image_size=self.image_size)


def network_plan(
    card: Mapping[str, Any], own_encoder: str | Mapping[str, Any] | None, *, source: str | Path
) -> NetworkPlan:
    """Plan the network of an encoder's card.

    A card comes with weights, perhaps from somebody else, so nothing is ever made from a definition (`_target_`) in it:
    that would run whatever code it names. Only the user's own config may define such a network.

    Args:
        card: of `encoder.json`; `in_channels` is 1 where an older card does not say.
        own_encoder: the key `encoder` of the user's config: a definition, or None. A name must be the card's.
        source: the file, for errors.

    Raises:
        CxrPairError: the card names a network of somebody's own and the config does not define it; or the config says
            another name than the card.
    """
    said, channels, size = card["encoder"], card.get("in_channels", 1), card["preprocessing"]["image_size"]
    kind = ", 3 channels" if channels == 3 else ""
    if isinstance(said, str):
        if isinstance(own_encoder, str) and own_encoder != said:
            raise CxrPairError(f"encoder is {own_encoder}, but {source} is a {said}: leave the key out")
        return NetworkPlan(encoder=said, in_channels=channels, image_size=size, kind=said + kind)
    target = said.get("_target_") if isinstance(said, Mapping) else said
    if not isinstance(own_encoder, Mapping):
        raise CxrPairError(
            f"{source}: its card names a network of somebody's own ({target}), and no code that a card names is run; "
            "if you know it, set encoder in your config as in training: {_target_: package.Class, argument: value}"
        )
    if own_encoder != said:
        logger.warning(
            "%s was trained as %s, and is read as %s: only the names and shapes of its weights are checked",
            source, json.dumps(said), json.dumps(own_encoder),
        )  # fmt: skip
    kind = str(own_encoder.get("_target_")).rpartition(".")[2] + kind
    return NetworkPlan(encoder=own_encoder, in_channels=channels, image_size=size, kind=kind)
