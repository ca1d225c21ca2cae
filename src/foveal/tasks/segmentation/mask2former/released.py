"""Names of the released files, MMSegmentation 1's with MMDetection 3 or 2, and ours."""

_ENCODER = r"^decode_head\.pixel_decoder\.(encoder\.layers\.\d+)\."
_DECODER = r"^decode_head\.transformer_decoder\.(layers\.\d+)\."
_OURS = r"transformer.decoder.\1."

# (pattern, replacement) for everything but the backbone; at most one matches a name, before and after.
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
