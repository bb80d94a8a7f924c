"""One module for each command of `cxrpair`. A command parses its options, calls its room and prints."""
