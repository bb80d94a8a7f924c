"""Which patients teach and which test, and how a few labels are drawn."""
