"""TransNeXt and TransXNet as backbones of transformers.

Importing this package registers them with AutoConfig and AutoBackbone, for every head that takes a ``backbone_config``.
"""

from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from foveal.errors import FovealError

if find_spec("transformers") is None:
    raise FovealError(
        "foveal.integrations.transformers needs transformers: install it with `pip install 'foveal[dense]'`."
    )

from transformers import AutoBackbone, AutoConfig, PreTrainedConfig
from transformers.utils import CONFIG_NAME

from foveal.integrations.transformers.backbone import (
    PyramidBackbone,
    TransNeXtBackbone,
    TransXNetBackbone,
    load_released,
)
from foveal.integrations.transformers.config import PyramidConfig, TransNeXtConfig, TransXNetConfig

__all__ = ["TransNeXtBackbone", "TransNeXtConfig", "TransXNetBackbone", "TransXNetConfig", "load_released"]

BACKBONES: dict[type[PyramidConfig], type[PyramidBackbone]] = {
    TransNeXtConfig: TransNeXtBackbone,
    TransXNetConfig: TransXNetBackbone,
}


def from_pretrained(
    cls: type[AutoBackbone], pretrained_model_name_or_path: str | PathLike[str], *model_args: Any, **kwargs: Any
) -> Any:
    """Replace ``AutoBackbone.from_pretrained``, to open a folder that a backbone of ours was saved in.

    transformers 5 asks the Hub for a repository of that name before it looks at the disk, which fails for every path.
    A folder of ours skips that request; everything else goes through it as before.
    """
    if _is_ours(Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")):
        kwargs.pop("use_timm_backbone", None)
        without_request: Any = super(AutoBackbone.__base__, cls)  # type: ignore[arg-type]
        return without_request.from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
    return super(AutoBackbone, cls).from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)


def _is_ours(folder: Path) -> bool:
    if not (folder / CONFIG_NAME).is_file():
        return False
    kind = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    return kind in {config.model_type for config in BACKBONES}


def register() -> None:
    """Add both families to AutoConfig and AutoBackbone; a second call changes nothing."""
    for config, backbone in BACKBONES.items():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoBackbone.register(config, backbone, exist_ok=True)
    AutoBackbone.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment, method-assign]


register()
