"""TransNeXt and TransXNet as backbones of transformers: importing this registers them with its AutoConfig and
AutoBackbone, so that every head there that takes a ``backbone_config`` takes them."""

from importlib.util import find_spec

from foveal.errors import FovealError

if find_spec("transformers") is None:
    raise FovealError(
        "foveal.integrations.transformers needs transformers: install it with `pip install 'foveal[dense]'`."
    )

from foveal.integrations.transformers.auto import register
from foveal.integrations.transformers.backbone import TransNeXtBackbone, TransXNetBackbone
from foveal.integrations.transformers.config import TransNeXtConfig, TransXNetConfig
from foveal.integrations.transformers.released import load_released

register()

__all__ = ["TransNeXtBackbone", "TransNeXtConfig", "TransXNetBackbone", "TransXNetConfig", "load_released"]
