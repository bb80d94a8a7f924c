"""Encoders: a radiograph (B, 1, H, W) becomes a feature vector (B, F)."""

from monai_cxrpair.contrast.encoders.build import NAMES, build_encoder, channels_last, feature_dim
from monai_cxrpair.contrast.encoders.weights import load_weights, read_state_dict

__all__ = ["NAMES", "build_encoder", "channels_last", "feature_dim", "load_weights", "read_state_dict"]
