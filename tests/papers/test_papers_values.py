"""The tables hold what the papers print: figures of every table, read in the papers anew."""

import pytest

from foveal.papers import paper_table, paper_tables

# Table, row, figures that identify the row among others of its name, and figures as printed.
READ = [
    ("transnext.imagenet", "PVT-Tiny", {}, {"params_m": "13.2", "mce": "79.6", "top1_v2": "63.0"}),
    (
        "transnext.imagenet",
        "TransNeXt-Base",
        {"size": "224"},
        {"macs_g": "18.4", "top1": "84.8", "top1_sketch": "41.4"},
    ),
    ("transnext.imagenet", "TransNeXt-Base", {"size": "384"}, {"macs_g": "56.3", "top1_a": "61.6", "mce": ""}),
    ("transnext.imagenet", "MaxViT-Base", {"size": "384"}, {"macs_g": "74.2", "top1_r": "", "top1_a": "55.1"}),
    ("transnext.roadmap", "Deeper and Thinner", {}, {"step": "2", "top1": "80.08", "mce": "55.3"}),
    ("transnext.roadmap", "GLU -> ConvGLU", {}, {"step": "5", "top1": "80.9", "top1_r": "44.3"}),
    ("transnext.roadmap", "+ Query Embedding", {}, {"top1_a": "29.9", "top1_v2": "72.6"}),
    ("transnext.variants", "TransNeXt-Small", {}, {"channels": "72-144-288-576", "blocks": "5-5-22-5"}),
    ("transnext.variants", "TransNeXt-Base", {}, {"head_dim": "24", "mlp_ratio": "8-8-4-4", "mixers": "A-A-A-M"}),
    ("transnext.multi_scale", "RepLKNet-31B", {}, {"top1_384": "70.0", "top1_640": "0.9"}),
    (
        "transnext.multi_scale",
        "TransNeXt-Tiny",
        {"method": "Interpolate RPE"},
        {"top1_640": "79.5", "top1_480": "83.1"},
    ),
    ("transnext.multi_scale", "TransNeXt-Base", {"method": "Normal Mode"}, {"top1_384": "85.5", "top1_512": "84.3"}),
    ("transnext.position_encoding", "No position bias", {}, {"params_m": "28.1", "top1": "83.2"}),
    ("transnext.position_encoding", "Window bias by positional attention", {}, {"macs_g": "5.7", "top1": "83.4"}),
    ("transnext.conv_glu", "ConvGLU", {}, {"params_m": "2.3", "macs_g": "0.5", "top1_cifar": "82.9"}),
    ("transnext.conv_glu", "Type-3", {}, {"top1_cifar": "82.1"}),
    ("transnext.window_size", "3x3", {}, {"macs_g": "0.50", "top1_cifar": "82.9"}),
    ("transnext.window_size", "9x9", {}, {"macs_g": "0.57", "top1_cifar": "82.5"}),
    ("transnext.token_mixers", "M-M-M-M", {}, {"macs_g": "4.7", "top1": "OOM"}),
    ("transnext.token_mixers", "A-A-A-A", {}, {"size": "256", "params_m": "13.1", "macs_g": "3.3", "top1": "82.6"}),
    ("transnext.cuda", "TransNeXt-Tiny", {}, {"images_s_cuda": "756", "inference_gain": "60.5"}),
    (
        "transnext.cuda",
        "TransNeXt-Base",
        {},
        {"step_s_pytorch": "1.568", "training_gain": "103.4", "memory_saving": "15.3"},
    ),
    ("transnext.throughput", "ConvNeXt-T", {}, {"top1": "82.3", "images_s": "779"}),
    ("transnext.throughput", "TransNeXt-Tiny", {}, {"macs_g": "5.7", "images_s": "413"}),
    ("transnext.coco_mask_rcnn", "TransNeXt-Tiny", {}, {"params_m": "47.9", "box_ap": "49.9", "mask_ap": "44.6"}),
    ("transnext.coco_mask_rcnn", "SMT-B", {}, {"encoder_m": "32", "box_ap75": "53.7", "mask_ap75": "47.4"}),
    ("transnext.coco_dino", "ConvNeXt-L", {}, {"params_m": "221", "box_ap": "53.4"}),
    ("transnext.coco_dino", "TransNeXt-Tiny", {"scales": "5"}, {"params_m": "48.1", "box_ap": "55.7"}),
    (
        "transnext.ade20k_upernet",
        "TransNeXt-Small",
        {},
        {"miou": "52.2", "miou_ms": "52.5", "miou_ms_extrapolated": "52.8"},
    ),
    ("transnext.ade20k_upernet", "ConvNeXt-B", {"pretraining": "IN-22K"}, {"miou": "52.6", "miou_ms": "53.1"}),
    ("transnext.ade20k_mask2former", "Swin-B", {"pretraining": "IN-22K"}, {"params_m": "107", "miou": "53.9"}),
    ("transnext.ade20k_mask2former", "TransNeXt-Tiny", {}, {"params_m": "47.5", "miou": "53.4"}),
    ("transxnet.variants", "TransXNet-S", {}, {"channels": "64-128-320-512", "params_m": "26.9", "macs_g": "4.5"}),
    ("transxnet.variants", "TransXNet-B", {}, {"channels": "76-152-336-672", "params_m": "48.0"}),
    (
        "transxnet.imagenet",
        "RegNetY-1.6G",
        {},
        {"macs_g": "1.6", "params_m": "11.2", "top1": "78.0", "top1_v2": "66.2"},
    ),
    ("transxnet.imagenet", "TransXNet-B", {}, {"top1": "84.6", "top1_v2": "75.0"}),
    ("transxnet.imagenet", "MixFormer-B5", {}, {"params_m": "62.0", "top1_v2": ""}),
    ("transxnet.imagenet_384", "TransXNet-B", {}, {"macs_g": "24.2", "top1": "85.5"}),
    ("transxnet.imagenet_384", "Swin-B", {}, {"top1": "?"}),
    ("transxnet.coco_retinanet", "ViL-T", {}, {"macs_g": "204", "params_m": "16.6", "box_ap_small": "26.7"}),
    ("transxnet.coco_retinanet", "TransXNet-B", {}, {"macs_g": "317", "params_m": "58.0", "box_ap": "47.6"}),
    ("transxnet.coco_mask_rcnn", "P2T-B", {}, {"macs_g": "363", "box_ap": "47.2", "mask_ap75": "45.9"}),
    ("transxnet.coco_mask_rcnn", "TransXNet-S", {}, {"params_m": "46.5", "box_ap": "47.7", "mask_ap": "43.1"}),
    ("transxnet.ade20k_semantic_fpn", "UniFormer-B", {}, {"macs_g": "471", "params_m": "54.0", "miou": "48.0"}),
    ("transxnet.ade20k_semantic_fpn", "TransXNet-T", {}, {"macs_g": "121", "params_m": "16.6", "miou": "45.5"}),
    ("transxnet.token_mixers", "SRA", {}, {"params_m": "16.2", "ade_macs_g": "126.6", "miou": "41.9"}),
    ("transxnet.token_mixers", "D-Mixer", {}, {"macs_g": "1.6", "ade_params_m": "15.2", "miou": "42.7"}),
    ("transxnet.depthwise", "IDConv", {}, {"top1": "80.9", "miou": "45.0"}),
    ("transxnet.depthwise", "DyConv", {}, {"top1": "80.7", "miou": "44.3"}),
    (
        "transxnet.ffn_scales",
        "N/A",
        {},
        {"top1": "80.3", "ade_params_m": "16.2", "coco_macs_g": "185.1", "box_ap": "40.9"},
    ),
    ("transxnet.ffn_scales", "1, 3, 5, 7, 9", {}, {"params_m": "13.0", "ade_macs_g": "122.5", "miou": "44.7"}),
    ("transxnet.attention_ratio", "0.25", {}, {"params_m": "12.5", "miou": "44.1"}),
    ("transxnet.attention_ratio", "0.75", {}, {"top1": "80.9", "ade_macs_g": "123.2"}),
    ("transxnet.design", "NSR", {}, {"params_m": "13.4", "top1": "80.5", "miou": "44.1"}),
    ("transxnet.design", "DPE, OSR, STE", {}, {"params_m": "12.8", "ade_macs_g": "121.4"}),
    ("transxnet.efficiency", "Focal-B", {}, {"images_s": "168", "memory_mb": "14889"}),
    ("transxnet.efficiency", "TransXNet-T", {}, {"images_s": "857", "memory_mb": "2252", "top1": "81.6"}),
]

# Number of rows of every table.
ROWS = {
    "transnext.imagenet": 38,
    "transnext.roadmap": 9,
    "transnext.variants": 4,
    "transnext.multi_scale": 13,
    "transnext.position_encoding": 5,
    "transnext.conv_glu": 4,
    "transnext.window_size": 4,
    "transnext.token_mixers": 5,
    "transnext.cuda": 4,
    "transnext.throughput": 7,
    "transnext.coco_mask_rcnn": 23,
    "transnext.coco_dino": 7,
    "transnext.ade20k_upernet": 20,
    "transnext.ade20k_mask2former": 6,
    "transxnet.variants": 3,
    "transxnet.imagenet": 57,
    "transxnet.imagenet_384": 5,
    "transxnet.coco_retinanet": 22,
    "transxnet.coco_mask_rcnn": 27,
    "transxnet.ade20k_semantic_fpn": 25,
    "transxnet.token_mixers": 6,
    "transxnet.depthwise": 5,
    "transxnet.ffn_scales": 6,
    "transxnet.attention_ratio": 3,
    "transxnet.design": 4,
    "transxnet.efficiency": 18,
}


@pytest.mark.parametrize(("table", "row", "among", "printed"), READ, ids=[f"{one[0]}-{one[1]}" for one in READ])
def test_figures_are_those_of_the_papers(table, row, among, printed):
    found = [
        one
        for one in paper_table(table).rows
        if one.name == row and all(one.figures[column].printed == figure for column, figure in among.items())
    ]
    assert len(found) == (1 if among else len(found)) > 0
    assert {column: found[0].figures[column].printed for column in printed} == printed


def test_every_table_was_read_at_two_rows_or_more():
    read = {(table, row) for table, row, _, _ in READ}
    assert {name for name in paper_tables() if sum(table == name for table, _ in read) < 2} == set()


def test_tables_have_all_rows():
    assert {name: len(paper_table(name).rows) for name in paper_tables()} == ROWS


def test_differences_that_the_papers_state_follow_from_the_figures():
    """TransNeXt's section 4 and TransXNet's section IV, in their words."""
    imagenet, ade = paper_table("transnext.imagenet"), paper_table("transxnet.ade20k_semantic_fpn")
    rows = {(row.name, row.number("size")): row for row in imagenet.rows}
    base, maxvit = rows["TransNeXt-Base", 224], rows["MaxViT-Base", 224]
    assert round(base.number("top1_a") - maxvit.number("top1_a"), 1) == 6.4
    small, large = rows["TransNeXt-Small", 384], rows["ConvNeXt-L", 384]
    assert round(small.number("top1_a") - large.number("top1_a"), 1) == 7.6
    fpn = {row.name: row for row in ade.rows}
    assert round(fpn["TransXNet-T"].number("miou") - fpn["P2T-T"].number("miou"), 1) == 2.1
    assert round(fpn["TransXNet-S"].number("miou") - fpn["CSWin-T"].number("miou"), 1) == 0.3
