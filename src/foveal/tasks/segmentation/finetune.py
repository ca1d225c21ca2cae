"""``finetune.HEAD_MODEL`` for segmenters: UPerNet, Mask2Former or Semantic FPN on a trained backbone, for one's own
images.

Heads learn as in the papers' recipes (see ``recipes.py``), but an epoch is a pass over the images, and 0 in label maps
is the first class unless ``--zero ignored`` is passed.
"""

from dataclasses import dataclass, replace
from typing import Any

from foveal.runtime.inference import Inference
from foveal.tasks.dense.finetune import LARGEST_BATCH, FinetuneDenseRecipe, Passes, drop_path_of, head_and_model
from foveal.tasks.segmentation.data import PUBLISHED
from foveal.tasks.segmentation.inference import ALIGNED, SLIDING, WHOLE
from foveal.tasks.segmentation.recipes import (
    MASK2FORMER_DROP_PATH,
    TRANSXNET_DROP_PATH,
    UPERNET_DROP_PATH,
    SegmentationRecipe,
)
from foveal.tasks.segmentation.segmenter import BUILDERS
from foveal.training.config import TrainConfig

HEADS: dict[str, dict[str, Any]] = {
    "upernet": {"lr": 6e-5},
    "mask2former": {"lr": 1e-4, "power": 0.9, "clip_norm": 0.01, "lr_factors": {"backbone.": 0.1}},
    "semantic_fpn": {"lr": 1.4e-4, "weight_decay": 1e-4},
}
INFERENCE: dict[str, Inference] = {"upernet": SLIDING, "mask2former": WHOLE, "semantic_fpn": ALIGNED}


@dataclass(frozen=True, kw_only=True)
class FinetuneSegmentationRecipe(FinetuneDenseRecipe, SegmentationRecipe):
    """A segmenter on a trained backbone, for any number of images."""

    passes = Passes(usual=100, fewest=30, most=200)


def finetune_recipe(name: str) -> FinetuneSegmentationRecipe | None:
    """Return the recipe of this name, or None if it is not one of a segmenter. Raises FovealError for an unknown
    backbone."""
    found = head_and_model(name, BUILDERS)
    if found is None:
        return None
    head, model = found
    of_transnext = MASK2FORMER_DROP_PATH if head == "mask2former" else UPERNET_DROP_PATH
    train = TrainConfig(
        epochs=100, batch_size=LARGEST_BATCH, schedule="poly", min_lr=0.0, warmup_epochs=1, warmup_lr=1e-7,
        weight_decay=0.05, clip_norm=1.0, workers=4, sync_bn=model.startswith("transxnet"),
    )  # fmt: skip
    return FinetuneSegmentationRecipe(
        name=name,
        summary=f"a {head} on {model}, fine-tuned on images of one's own",
        model=model,
        segmenter=head,
        augment=PUBLISHED,
        inference=INFERENCE[head],
        zero_ignored=False,
        train=replace(train, **HEADS[head]),
        drop_path=drop_path_of(model, of_transnext, TRANSXNET_DROP_PATH),
        starts_from_weights=True,
    )
