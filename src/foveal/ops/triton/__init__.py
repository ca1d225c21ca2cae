"""What the Triton kernels of all operators share. Imported with them, when a call first needs one: see `late.py`."""
