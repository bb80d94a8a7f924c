"""Which two radiographs belong together?"""

from monai_cxrpair.pairing.affinity import Affinity
from monai_cxrpair.pairing.affinity_measure import table_from_embeddings, table_from_labels
from monai_cxrpair.pairing.affinity_table import AffinityTable
from monai_cxrpair.pairing.candidates import build_index
from monai_cxrpair.pairing.codes import metadata_codes
from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.pairing.index import CandidateIndex
from monai_cxrpair.pairing.sampler import PairSampler

__all__ = [
    "Affinity",
    "AffinityTable",
    "CandidateIndex",
    "PairCriterion",
    "PairSampler",
    "build_index",
    "metadata_codes",
    "table_from_embeddings",
    "table_from_labels",
]
