"""Tables of radiographs: those of the public data sets, and anybody's own."""
