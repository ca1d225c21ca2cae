"""The entries in transformers' tables of configurations and backbones."""

from os import PathLike
from pathlib import Path
from typing import Any

from transformers import AutoBackbone, AutoConfig, PreTrainedConfig
from transformers.utils import CONFIG_NAME

from foveal.integrations.transformers.backbone import PyramidBackbone, TransNeXtBackbone, TransXNetBackbone
from foveal.integrations.transformers.config import PyramidConfig, TransNeXtConfig, TransXNetConfig

BACKBONES: dict[type[PyramidConfig], type[PyramidBackbone]] = {
    TransNeXtConfig: TransNeXtBackbone,
    TransXNetConfig: TransXNetBackbone,
}


def register() -> None:
    """Make AutoConfig and AutoBackbone know both families; once more changes nothing."""
    for config, backbone in BACKBONES.items():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoBackbone.register(config, backbone, exist_ok=True)
    AutoBackbone.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment, method-assign]


def from_pretrained(
    cls: type[AutoBackbone], pretrained_model_name_or_path: str | PathLike[str], *model_args: Any, **kwargs: Any
) -> Any:
    """``AutoBackbone.from_pretrained``, which opens a folder that a backbone of ours was saved in.

    Transformers 5 asks the Hub whether there is a repository of that name before it looks at the disk, which fails for
    every path. A folder of ours goes where it goes after that question, everything else where it went before.
    """
    if _is_ours(Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")):
        kwargs.pop("use_timm_backbone", None)
        after_the_question: Any = super(AutoBackbone.__base__, cls)  # type: ignore[arg-type]
        return after_the_question.from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
    return super(AutoBackbone, cls).from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)


def _is_ours(folder: Path) -> bool:
    if not (folder / CONFIG_NAME).is_file():
        return False
    kind = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    return kind in {config.model_type for config in BACKBONES}
