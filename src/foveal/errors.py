"""The exception whose text is written for the person at the keyboard."""


class FovealError(Exception):
    """Something the user can mend. The text is one sentence that says what is wrong and what to do.

    The command line prints the text without a traceback and exits with a code other than 0.
    """
