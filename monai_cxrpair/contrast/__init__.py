"""How does the encoder learn?"""

from monai_cxrpair.contrast.checkpoints import SaveRun, save_encoder
from monai_cxrpair.contrast.encoders import build_encoder, feature_dim, load_weights
from monai_cxrpair.contrast.loss import Found, contrastive_loss
from monai_cxrpair.contrast.moco import MoCo
from monai_cxrpair.contrast.negatives import Negatives
from monai_cxrpair.contrast.queue import KeyQueue
from monai_cxrpair.contrast.settings import make_encoder, queue_size
from monai_cxrpair.contrast.trainer import ContrastiveTrainer

__all__ = [
    "ContrastiveTrainer",
    "Found",
    "KeyQueue",
    "MoCo",
    "Negatives",
    "SaveRun",
    "build_encoder",
    "contrastive_loss",
    "feature_dim",
    "load_weights",
    "make_encoder",
    "queue_size",
    "save_encoder",
]
