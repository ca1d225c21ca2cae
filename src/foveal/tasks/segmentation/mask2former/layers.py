"""transformers' pixel decoder and transformer, with three parts of our own, and their first weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerAttention,
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerPixelDecoderEncoderOnly,
    Mask2FormerTransformerModule,
)

from foveal.tasks.dense.detr import at_least_float32, init_deformable_attention, sample_levels, sine_embedding_2d
from foveal.tasks.segmentation.mask2former.settings import LEVELS, Settings

POINTS = 4
TEMPERATURE = 10000
# Added to heights and widths that positions are divided by, as published.
EPS = 1e-6


class Positions(nn.Module):
    """What tokens are told by; transformers' own keeps its last result for all models, one on fake tensors as well."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: None = None) -> Tensor:
        """(B, dim, H, W), at least float32, for a map of that shape (B, C, H, W); transformers' arguments."""
        batch, _, height, width = shape
        dtype = torch.promote_types(dtype, torch.float32)
        rows, columns = (
            (torch.arange(1, count + 1, dtype=dtype, device=device) / (count + EPS))[None] for count in (height, width)
        )
        return sine_embedding_2d(rows, columns, self.dim, TEMPERATURE).permute(0, 3, 1, 2).expand(batch, -1, -1, -1)


class DeformableAttention(Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
    """transformers' own, with samples added up level by level (``sample_levels``)."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes_list: Sequence[tuple[int, int]] = (),
        level_start_index: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, None]:
        """Tokens (B, N, dim) of themselves; transformers' arguments, of which masks would only tell of padding.

        Args:
            hidden_states: (B, N, dim).
            position_embeddings: (B, N, dim), added to what asks.
            reference_points: (B, N, levels, 2), each token's own place as (x, y) in [0, 1].
            spatial_shapes_list: (height, width) of each level.
        """
        assert position_embeddings is not None
        assert reference_points is not None
        batch, count, dim = hidden_states.shape
        asking = hidden_states + position_embeddings
        value = self.value_proj(hidden_states).view(batch, count, self.n_heads, dim // self.n_heads)
        steps = self.sampling_offsets(asking).view(batch, count, self.n_heads, self.n_levels, self.n_points, 2)
        weights = self.attention_weights(asking).view(batch, count, self.n_heads, -1).softmax(-1)
        sizes = reference_points.new_tensor([(width, height) for height, width in spatial_shapes_list])
        places = reference_points[:, :, None, :, None] + steps / sizes[:, None]
        found = sample_levels(value, spatial_shapes_list, places, weights.view(steps.shape[:-1]))
        return self.output_proj(found.to(value.dtype)), None


class Encoder(Mask2FormerPixelDecoderEncoderOnly):
    """transformers' own, with tokens' places in at least float32: in bfloat16 they would be off by pixels."""

    @staticmethod
    def get_reference_points(spatial_shapes_list: list, valid_ratios: Tensor, device: torch.device) -> Tensor:
        """(B, N, levels, 2); see transformers."""
        ratios = at_least_float32(valid_ratios)
        return Mask2FormerPixelDecoderEncoderOnly.get_reference_points(spatial_shapes_list, ratios, device)


class CrossAttention(nn.MultiheadAttention):
    """PyTorch's own, which does not return its weights: nobody asks for them, and without them it takes less memory."""

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, key_padding_mask: None
    ) -> tuple[Tensor, None]:
        """What queries (Q, B, dim) find in tokens (N, B, dim), where ``attn_mask`` (B * heads, Q, N) is False."""
        return super().forward(query, key, value, need_weights=False, attn_mask=attn_mask)[0], None


def create_pixel_decoder(settings: Settings, channels: Sequence[int]) -> Mask2FormerPixelDecoder:
    """For maps of these channels, fine to coarse; its first weights as MMSegmentation draws them."""
    config = settings.config()
    decoder = Mask2FormerPixelDecoder(config, list(channels))
    decoder.position_embedding = Positions(settings.dim)  # type: ignore[assignment]
    decoder.encoder = Encoder(config)
    for layer in decoder.encoder.layers:
        layer.self_attn = DeformableAttention(settings.dim, settings.heads, LEVELS, POINTS)
    nn.init.normal_(decoder.level_embed)
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for projection in decoder.input_projections:
        nn.init.xavier_uniform_(projection[0].weight)  # type: ignore[index]
    _init_matrices(decoder.encoder)
    for module in decoder.encoder.modules():
        if isinstance(module, DeformableAttention):
            init_deformable_attention(module)
    return decoder


def create_transformer(settings: Settings) -> Mask2FormerTransformerModule:
    """Queries and the decoder; their first weights as MMSegmentation draws them."""
    transformer = Mask2FormerTransformerModule(settings.dim, settings.config())
    transformer.position_embedder = Positions(settings.dim)  # type: ignore[assignment]
    for layer in transformer.decoder.layers:
        layer.cross_attn = CrossAttention(settings.dim, settings.heads)
        _init_matrices(layer)
    for module in transformer.modules():
        if isinstance(module, Mask2FormerAttention):
            _init_as_packed(module)
    return transformer


def _init_matrices(layers: nn.Module) -> None:
    for parameter in layers.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_normal_(parameter)


def _init_as_packed(attention: Mask2FormerAttention) -> None:
    """nn.MultiheadAttention, which the released nets were trained with, draws query, key and value as one matrix three
    times as high, and has no bias at the start."""
    for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
        nn.init.xavier_normal_(linear.weight, gain=math.sqrt(0.5))
    for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
        nn.init.zeros_(linear.bias)
