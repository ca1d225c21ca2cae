"""Reference outputs of the authors' models, and the weights and images to reproduce them.

`*.keys.json` list every tensor name and shape of the released checkpoints. The `.npy` files hold the outputs of the
authors' code for the weights of `fill.py`, in float32 and evaluation mode.
"""
