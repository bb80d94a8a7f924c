"""What a cohort holds, as figures, as text and as a page."""
