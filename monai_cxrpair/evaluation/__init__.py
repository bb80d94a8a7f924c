"""What is the encoder worth?"""

from monai_cxrpair.evaluation.cards import read_classifier_card
from monai_cxrpair.evaluation.classifier import classifier_network, load_classifier
from monai_cxrpair.evaluation.encoders import common_image_size
from monai_cxrpair.evaluation.evaluation import LinearEvaluation, labelled
from monai_cxrpair.evaluation.inference import WriteOverlays, WritePredictions
from monai_cxrpair.evaluation.inference_data import InferenceDataset
from monai_cxrpair.evaluation.input_check import CheckInputd
from monai_cxrpair.evaluation.knn_probe import KnnProbe, knn_cohort

__all__ = [
    "CheckInputd",
    "InferenceDataset",
    "KnnProbe",
    "LinearEvaluation",
    "WriteOverlays",
    "WritePredictions",
    "classifier_network",
    "common_image_size",
    "knn_cohort",
    "labelled",
    "load_classifier",
    "read_classifier_card",
]
