"""Exported files whose products are in int8, calibrated on images."""

from .images import EVERY, Batches, Calibration
from .report import Int8Report
from .write import write_int8

__all__ = ["EVERY", "Batches", "Calibration", "Int8Report", "write_int8"]
