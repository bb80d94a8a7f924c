"""Which two radiographs belong together?"""

from monai_cxrpair.pairing.candidates import CandidateIndex, build_index
from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.pairing.sampler import PairSampler

__all__ = ["CandidateIndex", "PairCriterion", "PairSampler", "build_index"]
