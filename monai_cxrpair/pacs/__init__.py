"""How do radiographs come and go? Retrieval from an archive, and storage in it, over DICOMweb and DIMSE.

- `query`, `windows`, `accessions`: what is asked for
- `access`, `retry`: who may ask, and how often
- `dicomweb`, `http`, `multipart`: QIDO-RS and WADO-RS
- `dimse`, `dimse_link`, `dimse_store`: C-FIND, C-GET and C-MOVE
- `ledger`, `inbox`: what was planned, what has arrived
- `pull`, `connect`: the work itself
- `send`, `outgoing`, `stow`, `store`: the way back, by STOW-RS and C-STORE
"""

from monai_cxrpair.pacs.connect import pull
from monai_cxrpair.pacs.pull import PullResult
from monai_cxrpair.pacs.query import Query

__all__ = ["PullResult", "Query", "pull"]
