"""Outputs of the authors' networks, and how to make the weights and images that they belong to.

`*.keys.json` hold every tensor name and shape of the released checkpoints; the `.npy` files what the authors' own code
returned for the weights of `fill.py`, in float32 and evaluation mode.
"""
