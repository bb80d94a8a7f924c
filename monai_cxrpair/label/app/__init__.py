"""The app that MONAI Label runs: thin glue on the label core. Only what is in here imports monailabel or FastAPI."""
