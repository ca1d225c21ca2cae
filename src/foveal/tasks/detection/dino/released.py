"""Names of the released files: MMDetection 3's, which trained them, and ours."""

# (pattern, replacement) for everything but the backbone; at most one matches a name, before and after.
RENAMES: tuple[tuple[str, str], ...] = (
    (r"^neck\.convs\.(\d+)\.gn\.", r"neck.convs.\1.norm."),
    (r"^neck\.extra_convs\.0\.conv\.", "neck.extra.conv."),
    (r"^neck\.extra_convs\.0\.gn\.", "neck.extra.norm."),
    (r"^level_embed$", "flatten.level_embedding"),
    (r"^memory_trans_fc\.", "selection.project."),
    (r"^memory_trans_norm\.", "selection.norm."),
    (r"^query_embedding\.", "selection.content."),
    (r"^dn_query_generator\.", "denoising."),
    (r"^bbox_head\.cls_branches\.", "heads.classes."),
    (r"^bbox_head\.reg_branches\.(\d+)\.0\.", r"heads.boxes.\1.layers.0."),
    (r"^bbox_head\.reg_branches\.(\d+)\.2\.", r"heads.boxes.\1.layers.1."),
    (r"^bbox_head\.reg_branches\.(\d+)\.4\.", r"heads.boxes.\1.layers.2."),
    (r"^decoder\.ref_point_head\.", "decoder.place."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"^((?:en|de)coder\.layers\.\d+)\.norms\.0\.", r"\1.self_attn_layer_norm."),
    (r"^(encoder\.layers\.\d+)\.norms\.1\.", r"\1.final_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.1\.", r"\1.encoder_attn_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.2\.", r"\1.final_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.attn\.out_proj\.", r"\1.self_attn.o_proj."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.attn\.in_proj_", r"\1.self_attn.in_proj_"),
)
