"""Exceptions whose text is written for the user."""


class FovealError(Exception):
    """An error that the user can fix. The text is one sentence that says what is wrong and what to do.

    The command line prints the text without a traceback and exits with a code other than 0.
    """


class BrokenSample(FovealError):
    """A sample called ``name`` that cannot be read; ``broken="skip"`` passes over it.

    ``reason`` says in a few words what is wrong, so that many can be counted by it.
    """

    def __init__(self, name: str, text: str, reason: str = "not readable") -> None:
        super().__init__(text)
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple:
        return type(self), (self.name, str(self), self.reason)
