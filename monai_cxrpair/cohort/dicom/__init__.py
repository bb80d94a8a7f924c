"""The files of a DICOM export: which are there, what their headers say, and what is known from the last time."""
