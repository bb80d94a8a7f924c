"""The report of an evaluation: one page, its words and its pictures."""
