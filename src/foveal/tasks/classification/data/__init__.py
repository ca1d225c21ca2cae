"""Images with classes, from wherever they lie: everything that can be wrong with them is said before the first step.

``open_split`` and ``open_train_and_val`` are the doors. What the user types as ``--data`` is

- a folder: of class folders (``folders``), of ImageNet as its archives give it (``imagenet``), of tar shards
  (``shards``), or written by Hugging Face's ``save_to_disk`` (``hub``);
- the pattern or address of tar shards: ``DIR/train-{000..146}.tar``, ``https://...``, ``pipe:...``;
- a Hugging Face dataset: ``hf:NAME`` or ``hf:NAME:CONFIG``.
"""

from foveal.tasks.classification.data.images import Images
from foveal.tasks.classification.data.sources import match_classes, open_split, open_train_and_val
from foveal.tasks.image_files import decode_rgb, load_rgb

__all__ = ["Images", "decode_rgb", "load_rgb", "match_classes", "open_split", "open_train_and_val"]
