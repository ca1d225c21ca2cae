"""``finetune.HEAD_MODEL`` for detectors: Mask R-CNN, RetinaNet or DINO on a trained backbone, for one's own images.

Heads learn as in the papers' recipes (see ``recipes.py``), with three changes for small sets: short sides from 480 to
800 pixels and changes of colour in training, a schedule that falls smoothly, and images without objects, which are
trained on.
"""

from dataclasses import dataclass, replace
from typing import Any

from foveal.tasks.dense.finetune import LARGEST_BATCH, FinetuneDenseRecipe, Passes, drop_path_of, head_and_model
from foveal.tasks.detection.data.augment import MULTI_SCALE
from foveal.tasks.detection.detector import BUILDERS
from foveal.tasks.detection.recipes import TRANSNEXT_DROP_PATH, TRANSXNET_DROP_PATH, DetectionRecipe
from foveal.training.config import TrainConfig

HEADS: dict[str, dict[str, Any]] = {
    "mask_rcnn": {},
    "retinanet": {"weight_decay": 1e-4},
    "dino": {"clip_norm": 0.1, "lr_factors": {"backbone.": 0.1}},
}


@dataclass(frozen=True, kw_only=True)
class FinetuneDetectionRecipe(FinetuneDenseRecipe, DetectionRecipe):
    """A detector on a trained backbone, for any number of images."""

    passes = Passes(usual=50, fewest=12, most=100)


def finetune_recipe(name: str) -> FinetuneDetectionRecipe | None:
    """Return the recipe of this name, or None if it is not one of a detector. Raises FovealError for an unknown
    backbone."""
    found = head_and_model(name, BUILDERS)
    if found is None:
        return None
    head, model = found
    train = TrainConfig(
        epochs=50, batch_size=LARGEST_BATCH, lr=1e-4, min_lr=1e-6, warmup_epochs=1, warmup_lr=1e-7, weight_decay=0.05,
        clip_norm=1.0, workers=4, broken="skip", sync_bn=model.startswith("transxnet"),
    )  # fmt: skip
    return FinetuneDetectionRecipe(
        name=name,
        summary=f"a {head} on {model}, fine-tuned on images of one's own",
        model=model,
        detector=head,
        augment=replace(MULTI_SCALE, crop=MULTI_SCALE.crop if head == "dino" else None, colour=0.2),
        keep_empty=True,
        train=replace(train, **HEADS[head]),
        drop_path=drop_path_of(model, TRANSNEXT_DROP_PATH, TRANSXNET_DROP_PATH),
        starts_from_weights=True,
    )
