"""What is the encoder worth?"""

from monai_cxrpair.evaluation.cards import read_classifier_card
from monai_cxrpair.evaluation.classifier import load_classifier
from monai_cxrpair.evaluation.encoders import common_image_size
from monai_cxrpair.evaluation.evaluation import LinearEvaluation, labelled
from monai_cxrpair.evaluation.inference import WritePredictions

__all__ = [
    "LinearEvaluation",
    "WritePredictions",
    "common_image_size",
    "labelled",
    "load_classifier",
    "read_classifier_card",
]
