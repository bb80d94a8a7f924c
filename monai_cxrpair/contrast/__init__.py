"""How does the encoder learn?"""

from monai_cxrpair.contrast.checkpoints import SaveRun, save_encoder
from monai_cxrpair.contrast.encoders import build_encoder, feature_dim, load_weights
from monai_cxrpair.contrast.loss import contrastive_loss
from monai_cxrpair.contrast.moco import MoCo
from monai_cxrpair.contrast.queue import KeyQueue
from monai_cxrpair.contrast.settings import ignored_keys, make_encoder, queue_size
from monai_cxrpair.contrast.trainer import ContrastiveTrainer

__all__ = [
    "ContrastiveTrainer",
    "KeyQueue",
    "MoCo",
    "SaveRun",
    "build_encoder",
    "contrastive_loss",
    "feature_dim",
    "ignored_keys",
    "load_weights",
    "make_encoder",
    "queue_size",
    "save_encoder",
]
