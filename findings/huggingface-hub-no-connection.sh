#!/usr/bin/env bash
# Found:      huggingface_hub 2.4.0
# Behaviour:  Where the Hub cannot be reached, hf_hub_download of a file that is not in the cache asks again five times,
#             23 seconds in all, with a warning each time, before it raises. An etag_timeout of
#             one second does not shorten it.
# Output:     LocalEntryNotFoundError, 5 retries after 1, 2, 4, 8, 8 s
# In foveal:  released weights are fetched only if the Hub accepts connections; otherwise the cache alone is searched.
set -euo pipefail
unset PYTHONPATH HF_HUB_OFFLINE http_proxy HTTP_PROXY
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface_hub==2.4.0
HF_HOME="$folder/home" HF_ENDPOINT=http://127.0.0.1:9 "$folder/venv/bin/python" - <<'PY'
import logging
import re

from huggingface_hub import hf_hub_download

waits = []


class Record(logging.Handler):
    def emit(self, record):
        waits.extend(re.findall(r"Retrying in (\d+)", record.getMessage()))


logging.getLogger("huggingface_hub").addHandler(Record())
try:
    hf_hub_download("owner/model", "model.safetensors", etag_timeout=1)
    outcome = "ok"
except Exception as error:
    outcome = type(error).__name__
print(f"{outcome}, {len(waits)} retries after {', '.join(waits)} s")
assert (outcome, waits) == ("LocalEntryNotFoundError", ["1", "2", "4", "8", "8"]), "it asks less often now"
PY
