"""What if there is no data? Synthetic chest radiographs with known truth, written as DICOM or PNG."""

from monai_cxrpair.phantom.anatomy import Anatomy, Condition, Consolidation, draw_anatomy, draw_condition
from monai_cxrpair.phantom.nuisance import Shot, draw_shot
from monai_cxrpair.phantom.radiograph import PhantomRadiograph, draw_radiographs
from monai_cxrpair.phantom.render import render_radiograph
from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.structure import PatientPlan, RadiographPlan, StudyPlan, draw_patient
from monai_cxrpair.phantom.write import write_phantom

__all__ = [
    "Anatomy",
    "Condition",
    "Consolidation",
    "PatientPlan",
    "PhantomRadiograph",
    "PhantomSettings",
    "RadiographPlan",
    "Shot",
    "StudyPlan",
    "draw_anatomy",
    "draw_condition",
    "draw_patient",
    "draw_radiographs",
    "draw_shot",
    "render_radiograph",
    "write_phantom",
]
