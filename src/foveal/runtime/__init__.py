"""Exported files in the runtimes that read them: no network of PyTorch, and no torch."""

from .card import Card
from .guesses import Guess, Prediction, guess
from .images import preprocess
from .session import Session, open_session

__all__ = ["Card", "Guess", "Prediction", "Session", "guess", "open_session", "preprocess"]
