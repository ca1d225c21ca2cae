"""What the columns of the tables hold: one place for their headings, units and meanings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        name: its name in the files, in CSV and in JSON ("params_m").
        heading: a short heading with the unit ("params M").
        meaning: what it holds and in which unit.
        is_text: it holds words, not numbers.
    """

    name: str
    heading: str
    meaning: str
    is_text: bool = False


def _average_precision(name: str, heading: str, of: str) -> list[Column]:
    return [
        Column(f"{name}_ap", f"{heading} AP", f"COCO average precision of {of}, in percent"),
        Column(f"{name}_ap50", f"{heading} AP50", f"the same at an IoU of 0.5, of {of}"),
        Column(f"{name}_ap75", f"{heading} AP75", f"the same at an IoU of 0.75, of {of}"),
    ]


_COLUMNS = (
    # networks
    Column("size", "pixels", "side of the images in pixels"),
    Column("step", "step", "number of the step"),
    Column("method", "method", "how the network was run", is_text=True),
    Column("channels", "channels", "channels of the four stages", is_text=True),
    Column("blocks", "blocks", "blocks of the four stages", is_text=True),
    Column("heads", "heads", "attention heads of the four stages", is_text=True),
    Column("head_dim", "head dim", "channels of an attention head"),
    Column("groups", "groups", "groups of the dynamic convolution, by stage", is_text=True),
    Column("mlp_ratio", "MLP ratio", "expansion of the channel mixer, by stage", is_text=True),
    Column("mixers", "mixers", "token mixer of the four stages", is_text=True),
    Column("windows", "windows", "side of the attention window, by stage", is_text=True),
    Column("pools", "pools", "side of the pooled map at 224 pixels, by stage", is_text=True),
    # cost
    Column("params_m", "params M", "parameters in millions"),
    Column("encoder_m", "encoder M", "parameters of the backbone in millions"),
    Column("macs_g", "MACs G", "multiply-adds in billions, which the papers call FLOPs"),
    Column("images_s", "images/s", "throughput of inference in images per second"),
    Column("memory_mb", "memory MB", "memory of the GPU in MB"),
    Column("images_s_cuda", "img/s CUDA", "images per second in inference, CUDA kernels"),
    Column("images_s_pytorch", "img/s torch", "images per second in inference, native PyTorch"),
    Column("inference_gain", "gain %", "by how much the kernels are faster in inference, in percent"),
    Column("step_s_cuda", "s/step CUDA", "seconds per training step, CUDA kernels"),
    Column("step_s_pytorch", "s/step torch", "seconds per training step, native PyTorch"),
    Column("training_gain", "gain %", "by how much the kernels are faster in training, in percent"),
    Column("memory_gb_cuda", "GB CUDA", "memory of training in GB, CUDA kernels"),
    Column("memory_gb_pytorch", "GB torch", "memory of training in GB, native PyTorch"),
    Column("memory_saving", "saved %", "memory that the kernels save in training, in percent"),
    # classification
    Column("top1", "top-1 %", "ImageNet-1K top-1 in percent"),
    Column("mce", "mCE %", "mean corruption error on ImageNet-C in percent; lower is better"),
    Column("top1_a", "IN-A %", "top-1 on ImageNet-A in percent"),
    Column("top1_r", "IN-R %", "top-1 on ImageNet-R in percent"),
    Column("top1_sketch", "Sketch %", "top-1 on ImageNet-Sketch in percent"),
    Column("top1_v2", "V2 %", "top-1 on ImageNet-V2 in percent"),
    Column("top1_cifar", "top-1 %", "CIFAR-100 top-1 in percent"),
    *(
        Column(f"top1_{size}", f"{size} px", f"ImageNet-1K top-1 in percent, images of {size} pixels")
        for size in (224, 256, 320, 384, 480, 512, 640)
    ),
    # detection and segmentation
    Column("epochs", "epochs", "epochs of training"),
    Column("scales", "scales", "feature maps that the head takes"),
    Column("crop", "crop", "side of the crops in pixels"),
    Column("pretraining", "data", "images of the backbone's pre-training: ImageNet-1K or ImageNet-22K", is_text=True),
    *_average_precision("box", "box", "boxes"),
    Column("box_ap_small", "small AP", "COCO average precision of boxes of small objects, in percent"),
    Column("box_ap_medium", "medium AP", "COCO average precision of boxes of medium objects, in percent"),
    Column("box_ap_large", "large AP", "COCO average precision of boxes of large objects, in percent"),
    *_average_precision("mask", "mask", "masks"),
    Column("miou", "mIoU %", "mean IoU in percent, one scale"),
    Column("miou_ms", "mIoU ms %", "mean IoU in percent, several scales and flips"),
    Column("miou_ms_extrapolated", "extrap. %", "the same with an extrapolated position bias"),
    Column("ade_params_m", "ADE M", "parameters in millions, with the head for ADE20K"),
    Column("ade_macs_g", "ADE G", "multiply-adds in billions, with the head for ADE20K, at 512 x 2048 pixels"),
    Column("coco_params_m", "COCO M", "parameters in millions, with the head for COCO"),
    Column("coco_macs_g", "COCO G", "multiply-adds in billions, with the head for COCO, at 800 x 1280 pixels"),
)
COLUMNS = {column.name: column for column in _COLUMNS}
