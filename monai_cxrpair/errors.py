"""The one exception that a user may see: one line that names the file, column or key, and what to do next."""


class CxrPairError(Exception):
    """A mistake in the input or the settings; the command line shows it as one line and exits with 1."""
