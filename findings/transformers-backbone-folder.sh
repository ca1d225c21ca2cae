#!/usr/bin/env bash
# Found:      transformers 5.23.0, huggingface_hub 2.4.0, torch 2.13.0 and 2.15.0
# Behaviour:  `AutoBackbone.from_pretrained` fails on a folder written by `save_pretrained`, because it first asks the
#             Hub whether a repository of that name exists, and a path is not a valid name. The backbone class and
#             `AutoModel` open the same folder.
# Output:     AutoBackbone: HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': ...
#             ResNetBackbone: ok
# In foveal:  `import foveal.integrations.transformers` enables folders of Foveal backbones (docs/transformers.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 huggingface_hub==2.4.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os

from huggingface_hub.errors import HFValidationError
from transformers import AutoBackbone, AutoModel, ResNetBackbone, ResNetConfig

config = ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic",
                      out_features=["stage2", "stage4"])
AutoBackbone.from_config(config).save_pretrained("backbone")
path = os.path.abspath("backbone")

try:
    AutoBackbone.from_pretrained(path)
except HFValidationError as error:
    print(f"AutoBackbone: HFValidationError: {error}")
else:
    raise SystemExit("AutoBackbone opens a local folder now")
for kind in (ResNetBackbone, AutoModel):
    kind.from_pretrained(path)
    print(f"{kind.__name__}: ok")
PY
