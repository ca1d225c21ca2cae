"""The entries in transformers' tables of configurations and backbones."""

from collections.abc import Callable
from functools import wraps
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
    """Make AutoConfig and AutoBackbone know both families."""
    for config, backbone in BACKBONES.items():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoBackbone.register(config, backbone, exist_ok=True)
    AutoBackbone.from_pretrained = _opening_folders(AutoBackbone.from_pretrained)  # type: ignore[method-assign]


def _opening_folders(ask_hub: Callable[..., Any]) -> Any:
    """``AutoBackbone.from_pretrained``, which opens a folder that a backbone of ours was saved in.

    Transformers 5 asks the Hub whether there is a repository of that name before it looks at the disk, which fails for
    every path. Whatever is not a folder of ours goes there as before.
    """

    @wraps(ask_hub)
    def from_pretrained(cls: type, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        folder = Path(pretrained_model_name_or_path)
        if (folder / CONFIG_NAME).is_file():
            kind = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
            for config, backbone in BACKBONES.items():
                if config.model_type == kind:
                    return backbone.from_pretrained(folder, *args, **kwargs)
        return ask_hub(pretrained_model_name_or_path, *args, **kwargs)

    return classmethod(from_pretrained)
