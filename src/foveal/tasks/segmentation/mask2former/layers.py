"""The pixel decoder and transformer of transformers, with three parts replaced, and their initial weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerAttention,
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerPixelDecoderEncoderOnly,
    Mask2FormerTransformerModule,
)

from foveal.tasks.dense.detr import at_least_float32, init_deformable_attention, sample_levels, sine_embedding_2d
from foveal.tasks.segmentation.mask2former import LEVELS, Settings
from foveal.types import Size

POINTS = 4
TEMPERATURE = 10000
# Added to the heights and widths that normalise positions, as published.
EPS = 1e-6


def transformers_config(settings: Settings) -> Mask2FormerConfig:
    """Return the configuration for the pixel decoder and transformer of transformers; its other fields are not used."""
    return Mask2FormerConfig(
        feature_size=settings.dim,
        mask_feature_size=settings.dim,
        hidden_dim=settings.dim,
        num_attention_heads=settings.heads,
        num_queries=settings.queries,
        encoder_layers=settings.encoder_layers,
        encoder_feedforward_dim=settings.encoder_mlp_dim,
        decoder_layers=settings.decoder_layers + 1,  # transformers counts the prediction before the first layer as one
        dim_feedforward=settings.mlp_dim,
        dropout=0.0,
    )


class Positions(nn.Module):
    """Sine position embeddings. Those of transformers cache the last result for all models, even on fake tensors."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: None = None) -> Tensor:
        """Return (B, dim, H, W), at least float32, for a map of shape (B, C, H, W). Arguments as in transformers."""
        batch, _, height, width = shape
        dtype = torch.promote_types(dtype, torch.float32)
        rows, columns = (
            (torch.arange(1, count + 1, dtype=dtype, device=device) / (count + EPS))[None] for count in (height, width)
        )
        return sine_embedding_2d(rows, columns, self.dim, TEMPERATURE).permute(0, 3, 1, 2).expand(batch, -1, -1, -1)


class DeformableAttention(Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
    """Deformable attention of transformers, accumulating samples level by level (``sample_levels``)."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes_list: Sequence[Size] = (),
        level_start_index: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend from tokens (B, N, dim) to themselves. Arguments of transformers that are not listed are unused.

        Args:
            hidden_states: (B, N, dim).
            position_embeddings: (B, N, dim), added to the queries.
            reference_points: (B, N, levels, 2), each token's own position as (x, y) in [0, 1].
            spatial_shapes_list: (height, width) of each level.
        """
        assert position_embeddings is not None
        assert reference_points is not None
        batch, count, dim = hidden_states.shape
        queries = hidden_states + position_embeddings
        value = self.value_proj(hidden_states).view(batch, count, self.n_heads, dim // self.n_heads)
        offsets = self.sampling_offsets(queries).view(batch, count, self.n_heads, self.n_levels, self.n_points, 2)
        weights = self.attention_weights(queries).view(batch, count, self.n_heads, -1).softmax(-1)
        sizes = reference_points.new_tensor([(width, height) for height, width in spatial_shapes_list])
        locations = reference_points[:, :, None, :, None] + offsets / sizes[:, None]
        found = sample_levels(value, spatial_shapes_list, locations, weights.view(offsets.shape[:-1]))
        return self.output_proj(found.to(value.dtype)), None


class Encoder(Mask2FormerPixelDecoderEncoderOnly):
    """Encoder of transformers, with reference points in at least float32: in bfloat16 they would be off by pixels."""

    @staticmethod
    def get_reference_points(spatial_shapes_list: list, valid_ratios: Tensor, device: torch.device) -> Tensor:
        """Return (B, N, levels, 2); see transformers."""
        ratios = at_least_float32(valid_ratios)
        return Mask2FormerPixelDecoderEncoderOnly.get_reference_points(spatial_shapes_list, ratios, device)


class CrossAttention(nn.MultiheadAttention):
    """Multi-head attention of PyTorch without returning attention weights, which saves memory."""

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, key_padding_mask: None
    ) -> tuple[Tensor, None]:
        """Attend from queries (Q, B, dim) to tokens (N, B, dim) where ``attn_mask`` (B * heads, Q, N) is False."""
        return super().forward(query, key, value, need_weights=False, attn_mask=attn_mask)[0], None


def create_pixel_decoder(settings: Settings, channels: Sequence[int]) -> Mask2FormerPixelDecoder:
    """Create the pixel decoder for maps of these channels, fine to coarse, initialised as in MMSegmentation."""
    config = transformers_config(settings)
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
    """Create the queries and the decoder, initialised as in MMSegmentation."""
    transformer = Mask2FormerTransformerModule(settings.dim, transformers_config(settings))
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
    """Initialise attention like ``nn.MultiheadAttention``, which the released models were trained with.

    It initialises query, key and value as one matrix three times as high, and all biases to 0.
    """
    for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
        nn.init.xavier_normal_(linear.weight, gain=math.sqrt(0.5))
    for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
        nn.init.zeros_(linear.bias)
