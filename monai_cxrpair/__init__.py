"""Contrastive pre-training of chest X-ray encoders with positive pairs chosen by patient metadata.

Importing the package costs nothing: torch and MONAI are imported by the rooms that need them.
"""

__version__ = "0.1.0"
