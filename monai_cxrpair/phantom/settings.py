"""Every number that decides what the phantom looks like, in one frozen place, with a hash that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from monai_cxrpair.errors import CxrPairError


@dataclass(frozen=True, kw_only=True)
class PhantomSettings:
    """The frozen settings of the generator. Chances are in [0, 1], lengths in units of half the image height.

    The structure of the cohort follows CheXpert's training table (223,414 radiographs, 64,540 patients). The
    difficulty was set with `benchmarks/phantom_calibration.py` and then frozen: changing a number here makes a
    different phantom, so the pinned hash in the tests has to change with it.

    Attributes:
        generator: Raised by hand whenever the drawing code changes what is drawn; part of the hash.
        image_size: Rows of a radiograph in pixels.
        aspect: Columns divided by rows.
        one_study: Share of the patients who have a single study.
        more_studies: Mean and SD of the natural logarithm of the number of studies beyond the second.
        most_studies: Upper bound of the number of studies of a patient.
        images_per_study: Chances that a study has one, two or three radiographs.
        pair_with_lateral: Chance that a study of two radiographs is frontal + lateral, not two frontals.
        erect_pa: Chance that a frontal is PA in a study with, and in a study without a lateral.
        prevalence: Share of the studies with an effusion.
        patient_share: Share of the variance of the effusion's course that never changes within a patient.
        effusion_days: Time after which the rest of that course is forgotten (e-folding), in days.
        smallest_grade: Grade of the smallest effusion that is called present.
        effusion_rise: Height of the meniscus at the chest wall: offset, factor and power of the grade.
        fluid_density: How much of the air the fluid takes from the X-ray's path.
        supine: Chance that an AP radiograph was taken lying, where fluid is a veil and not a meniscus.
        supine_fluid: Lying: height of the meniscus as a share of the erect one, and density of the veil at grade 1.
        scar_height: Height of the strongest scar at the chest wall, that of a small effusion.
        consolidation: Chance of a consolidation in a study; most are basal, the confounder next to the fluid.
        raised_diaphragm: Chance that a patient has one hemidiaphragm raised for good.
        pleural_scar: Chance that a costophrenic angle is blunt for good without fluid.
        atelectasis: Chance of a plate-like atelectasis in a study.
        oedema: Chance of a perihilar haze in a study.
        devices: Chance that a study shows lines, tubes or leads, whatever the lungs show.
        markers: Chance of burned-in letters on a radiograph.
        collimation: Chance that the edges of the field are seen.
        monochrome1: Share of the DICOM objects stored with MONOCHROME1.
        noise: Range of the noise's SD, as a share of the displayed range.
        gamma: Range of the exponent of the display curve.
    """

    generator: int = 1
    image_size: int = 160
    aspect: float = 0.9
    one_study: float = 0.52
    more_studies: tuple[float, float] = (0.74, 1.0)
    most_studies: int = 60
    images_per_study: tuple[float, float, float] = (0.82, 0.17, 0.01)
    pair_with_lateral: float = 0.93
    erect_pa: tuple[float, float] = (0.78, 0.026)
    prevalence: float = 0.38
    patient_share: float = 0.35
    effusion_days: float = 45.0
    smallest_grade: float = 0.065
    effusion_rise: tuple[float, float, float] = (0.025, 1.08, 1.42)
    fluid_density: float = 0.9
    supine: float = 0.4
    supine_fluid: tuple[float, float] = (0.52, 0.48)
    scar_height: float = 0.14
    consolidation: float = 0.35
    raised_diaphragm: float = 0.10
    pleural_scar: float = 0.07
    atelectasis: float = 0.20
    oedema: float = 0.25
    devices: float = 0.45
    markers: float = 0.75
    collimation: float = 0.4
    monochrome1: float = 0.5
    noise: tuple[float, float] = (0.004, 0.02)
    gamma: tuple[float, float] = (0.75, 1.35)

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be drawn."""
        if self.image_size < 32:
            raise CxrPairError(f"phantom: image_size={self.image_size} is too small to show a chest; use 32 or more")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a radiograph in pixels."""
        return self.image_size, round(self.image_size * self.aspect)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the settings written as sorted JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


# What differs between the cohorts whose structure can be had. MIMIC-CXR: 377,110 radiographs in 227,835 studies.
STRUCTURES: dict[str, PhantomSettings] = {
    "chexpert": PhantomSettings(),
    "mimic": PhantomSettings(images_per_study=(0.42, 0.50, 0.08)),
}
