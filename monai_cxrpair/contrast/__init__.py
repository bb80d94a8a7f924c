"""How does the encoder learn?"""

from monai_cxrpair.contrast.checkpoints.encoder_file import save_encoder
from monai_cxrpair.contrast.checkpoints.resume import resume_folder
from monai_cxrpair.contrast.checkpoints.save import SaveRun
from monai_cxrpair.contrast.encoders import build_encoder, feature_dim, load_weights
from monai_cxrpair.contrast.method.in_batch import InBatch
from monai_cxrpair.contrast.method.loss import Found, contrastive_loss
from monai_cxrpair.contrast.method.moco import MoCo
from monai_cxrpair.contrast.method.negatives import Negatives
from monai_cxrpair.contrast.method.queue import KeyQueue
from monai_cxrpair.contrast.settings import input_statistics, make_encoder, queue_size
from monai_cxrpair.contrast.training import scale_out
from monai_cxrpair.contrast.training.history import WriteHistory
from monai_cxrpair.contrast.training.monitors import Monitors
from monai_cxrpair.contrast.training.order import ResumableSampler
from monai_cxrpair.contrast.training.schedules import cosine
from monai_cxrpair.contrast.training.trainer import ContrastiveTrainer

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
