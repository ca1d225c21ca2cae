"""The exception whose text is written for the user."""


class FovealError(Exception):
    """An error that the user can fix. The text is one sentence that says what is wrong and what to do.

    The command line prints the text without a traceback and exits with a code other than 0.
    """
