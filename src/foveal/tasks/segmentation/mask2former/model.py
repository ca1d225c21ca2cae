"""The Mask2Former model: from a backbone's maps to losses or scores."""

import torch.nn.functional as F
from torch import Tensor, nn

from foveal.tasks.dense.detr import at_least_float32
from foveal.tasks.dense.model import DenseBackbone
from foveal.tasks.dense.released import split_attention
from foveal.tasks.segmentation.mask2former import Settings
from foveal.tasks.segmentation.mask2former.layers import create_pixel_decoder, create_transformer
from foveal.tasks.segmentation.mask2former.losses import set_losses
from foveal.tasks.segmentation.mask2former.points import Segments
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.types import Size

# Elements of the masks that are upsampled at a time: 256 MiB in float32.
UPSAMPLED = 2**26

_ENCODER = r"^decode_head\.pixel_decoder\.(encoder\.layers\.\d+)\."
_DECODER = r"^decode_head\.transformer_decoder\.(layers\.\d+)\."
_OURS = r"transformer.decoder.\1."

# (pattern, replacement) from the names of the released files (MMSegmentation 1 with MMDetection 3 or 2) to ours, for
# everything but the backbone; at most one matches a name, before and after.
RENAMES: tuple[tuple[str, str], ...] = (
    (r"^decode_head\.pixel_decoder\.input_convs\.(\d+)\.conv\.", r"pixel_decoder.input_projections.\1.0."),
    (r"^decode_head\.pixel_decoder\.input_convs\.(\d+)\.gn\.", r"pixel_decoder.input_projections.\1.1."),
    (r"^decode_head\.pixel_decoder\.lateral_convs\.0\.conv\.", "pixel_decoder.adapter_1.0."),
    (r"^decode_head\.pixel_decoder\.lateral_convs\.0\.gn\.", "pixel_decoder.adapter_1.1."),
    (r"^decode_head\.pixel_decoder\.output_convs\.0\.conv\.", "pixel_decoder.layer_1.0."),
    (r"^decode_head\.pixel_decoder\.output_convs\.0\.gn\.", "pixel_decoder.layer_1.1."),
    (r"^decode_head\.pixel_decoder\.level_encoding\.weight$", "pixel_decoder.level_embed"),
    (r"^decode_head\.pixel_decoder\.mask_feature\.", "pixel_decoder.mask_projection."),
    (_ENCODER + r"(?:self_attn|attentions\.0)\.", r"pixel_decoder.\1.self_attn."),
    (_ENCODER + r"(?:ffn|ffns\.0)\.layers\.0\.0\.", r"pixel_decoder.\1.fc1."),
    (_ENCODER + r"(?:ffn|ffns\.0)\.layers\.1\.", r"pixel_decoder.\1.fc2."),
    (_ENCODER + r"norms\.0\.", r"pixel_decoder.\1.self_attn_layer_norm."),
    (_ENCODER + r"norms\.1\.", r"pixel_decoder.\1.final_layer_norm."),
    # Masked attention comes first.
    (_DECODER + r"(?:cross_attn|attentions\.0)\.attn\.", _OURS + "cross_attn."),
    (_DECODER + r"(?:self_attn|attentions\.1)\.attn\.", _OURS + "self_attn."),
    (_DECODER + r"(?:ffn|ffns\.0)\.layers\.0\.0\.", _OURS + "fc1."),
    (_DECODER + r"(?:ffn|ffns\.0)\.layers\.1\.", _OURS + "fc2."),
    (_DECODER + r"norms\.0\.", _OURS + "cross_attn_layer_norm."),
    (_DECODER + r"norms\.1\.", _OURS + "self_attn_layer_norm."),
    (_DECODER + r"norms\.2\.", _OURS + "final_layer_norm."),
    (r"^decode_head\.transformer_decoder\.post_norm\.", "transformer.decoder.layernorm."),
    (r"^decode_head\.query_embed\.", "transformer.queries_embedder."),
    (r"^decode_head\.query_feat\.", "transformer.queries_features."),
    (r"^decode_head\.level_embed\.", "transformer.level_embed."),
    (r"^decode_head\.cls_embed\.", "classes."),
    (r"^decode_head\.mask_embed\.0\.", "transformer.decoder.mask_predictor.mask_embedder.0.0."),
    (r"^decode_head\.mask_embed\.2\.", "transformer.decoder.mask_predictor.mask_embedder.1.0."),
    (r"^decode_head\.mask_embed\.4\.", "transformer.decoder.mask_predictor.mask_embedder.2.0."),
)


class Mask2Former(Segmenter):
    """Mask2Former (arXiv:2112.01527): each query predicts one segment, a class and a mask.

    In training, each class that occurs in an image is one segment; ignored pixels lie outside all of them. The losses
    ``loss_class``, ``loss_mask`` and ``loss_dice`` are sums over all layers, weighted by 2, 5 and 5. Scores are sums
    over the queries of the class probability times the mask probability of a pixel.
    """

    size_divisor = 32  # as the released models were evaluated
    class_layers = ("classes.",)
    released_renames = RENAMES

    def __init__(self, backbone: DenseBackbone, num_classes: int, settings: Settings) -> None:
        super().__init__(backbone, num_classes)
        self.settings = settings
        self.pixel_decoder = create_pixel_decoder(settings, backbone.channels)
        self.transformer = create_transformer(settings)
        self.classes = nn.Linear(settings.dim, num_classes + 1)

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        segments = Segments.of(labels, self.num_classes)
        queries, masks = self._decode(maps)
        losses = set_losses([self.classes(q) for q in queries], masks, segments, self.settings.train_points)
        return {f"loss_{name}": loss for name, loss in losses.items()}

    def scores(self, maps: list[Tensor], size: Size) -> Tensor:
        queries, masks = self._decode(maps)
        classes = at_least_float32(self.classes(queries[-1])).softmax(-1)[..., :-1]
        return combine(classes, at_least_float32(masks[-1]), size)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return scores unchanged: Mask2Former's authors average them directly; MMSegmentation adds a softmax."""
        return scores

    def no_weight_decay(self) -> set[str]:
        """Exclude the embeddings of queries and levels as well, as published."""
        names = ("queries_embedder", "queries_features", "level_embed")
        return super().no_weight_decay() | {f"transformer.{name}.weight" for name in names}

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Split the self attention of a renamed released state; see ``split_attention``.

        Masked attention is not split: transformers uses ``nn.MultiheadAttention`` there.
        """
        return split_attention(state, r"transformer\..*\.self_attn")

    def _decode(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return normalised queries (B, Q, dim) and mask logits (B, Q, h, w), before the first layer and after each."""
        pixels = self.pixel_decoder(maps)
        found = self.transformer(pixels.multi_scale_features, pixels.mask_features)
        return [q.transpose(0, 1) for q in found.intermediate_hidden_states], list(found.masks_queries_logits)


def combine(classes: Tensor, masks: Tensor, size: Size) -> Tensor:
    """Combine classes and masks of all queries to scores (B, C, *size) (Mask2Former, section 4.1).

    Masks are upsampled before the sigmoid, as published, which differs from upsampling after it. A few queries are
    processed at a time, so that large images need little more memory than their scores.

    Args:
        classes: (B, Q, C), probabilities.
        masks: (B, Q, h, w), logits.
        size: (height, width) of the scores.
    """
    height, width = size
    scores = classes.new_zeros(len(classes), classes.shape[2], height * width)
    step = max(UPSAMPLED // (len(classes) * height * width), 1)
    for of_classes, part in zip(classes.split(step, 1), masks.split(step, 1), strict=True):
        upsampled = F.interpolate(part, size=size, mode="bilinear", align_corners=False).sigmoid_()
        scores = scores.baddbmm_(of_classes.mT, upsampled.flatten(2))
    return scores.unflatten(2, size)
