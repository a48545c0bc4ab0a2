"""The one exception that a user is meant to see."""


class FloodlineError(Exception):
    """One sentence for the user: what is wrong, where (file, key, box), and what would be right.

    The command line prints it and exits with status 1; it never prints a traceback for it.
    """


class Diverged(FloodlineError):
    """A training's loss is no number any more: for a study that is a result."""
