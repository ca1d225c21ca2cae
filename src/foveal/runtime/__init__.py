"""Exported files in the runtimes that read them. Nothing here uses torch; ``import foveal`` itself loads it."""

from .card import Card
from .guesses import Guess, Prediction, guess
from .images import preprocess
from .session import Session, open_session

__all__ = ["Card", "Guess", "Prediction", "Session", "guess", "open_session", "preprocess"]
