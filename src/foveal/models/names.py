"""The names that ``timm.create_model`` takes, and the sentence about those that it does not."""

from __future__ import annotations

import timm
from timm.models import get_arch_pretrained_cfgs, split_model_name_tag

from foveal.errors import FovealError
from foveal.near import did_you_mean


def check_model(name: str) -> None:
    """Raise FovealError if timm has no model of this name, or no weights of its tag; foveal's models are among them.

    Names of models on the Hugging Face Hub or on disk ("hf-hub:OWNER/NAME") are not checked.
    """
    if ":" in name:
        return
    if not timm.is_model(name):
        near = did_you_mean(name, timm.list_models())
        raise FovealError(f"There is no model {name!r}{near}: `foveal models` shows ours, timm.list_models() all.")
    architecture, tag = split_model_name_tag(name)
    tags = get_arch_pretrained_cfgs(architecture)
    if tag and name not in tags:
        known = ", ".join(tags) or "none"
        raise FovealError(
            f"There are no weights {name!r}{did_you_mean(name, tags)}: those of {architecture} are {known}."
        )
