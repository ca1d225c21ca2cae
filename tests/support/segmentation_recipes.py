"""Recipes that train a small segmenter in two short epochs."""

from __future__ import annotations

from dataclasses import replace

from foveal.tasks.recipes import get_recipe
from foveal.tasks.segmentation.recipes import SegmentationRecipe

SHAPES = {
    "upernet": "shapes.upernet_transnext_atto",
    "mask2former": "shapes.mask2former_transnext_atto",
    "semantic_fpn": "shapes.semantic_fpn_transxnet_atto",
}
SMALL_HEADS = {
    "upernet": dict(channels=8, auxiliary_channels=4),
    "mask2former": dict(
        dim=64, heads=2, queries=5, encoder_layers=1, encoder_mlp_dim=16, decoder_layers=3, mlp_dim=16, train_points=32
    ),
    "semantic_fpn": dict(pyramid_channels=8, channels=8),
}


def small_recipe(name: str, backbone: str | None = None, size: int = 64, **settings) -> SegmentationRecipe:
    """A recipe on the smallest backbone with one block per stage and two images per update."""
    recipe = get_recipe(SHAPES[name])
    recipe = recipe.with_model(backbone or recipe.model).with_size(size)
    train = dict(epochs=2, batch_size=2, lr=1e-4, warmup_epochs=0, workers=0, log_every=1)
    options = {**recipe.options, "reference_size": size, **SMALL_HEADS[name]}
    return replace(recipe.with_training(**{**train, **settings}), options=options, model_args=dict(depths=(1, 1, 1, 1)))
