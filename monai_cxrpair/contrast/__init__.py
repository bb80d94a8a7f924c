"""How does the encoder learn?"""

from monai_cxrpair.contrast import scale_out
from monai_cxrpair.contrast.checkpoints import SaveRun
from monai_cxrpair.contrast.encoder_file import save_encoder
from monai_cxrpair.contrast.encoders import build_encoder, feature_dim, load_weights
from monai_cxrpair.contrast.history import WriteHistory
from monai_cxrpair.contrast.in_batch import InBatch
from monai_cxrpair.contrast.loss import Found, contrastive_loss
from monai_cxrpair.contrast.moco import MoCo
from monai_cxrpair.contrast.monitors import Monitors
from monai_cxrpair.contrast.negatives import Negatives
from monai_cxrpair.contrast.order import ResumableSampler
from monai_cxrpair.contrast.queue import KeyQueue
from monai_cxrpair.contrast.resume import resume_folder
from monai_cxrpair.contrast.schedules import cosine
from monai_cxrpair.contrast.settings import input_statistics, make_encoder, queue_size
from monai_cxrpair.contrast.trainer import ContrastiveTrainer

__all__ = [
    "ContrastiveTrainer",
    "Found",
    "InBatch",
    "KeyQueue",
    "MoCo",
    "Monitors",
    "Negatives",
    "ResumableSampler",
    "SaveRun",
    "WriteHistory",
    "build_encoder",
    "contrastive_loss",
    "cosine",
    "feature_dim",
    "input_statistics",
    "load_weights",
    "make_encoder",
    "queue_size",
    "resume_folder",
    "save_encoder",
    "scale_out",
]
