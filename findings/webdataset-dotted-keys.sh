#!/usr/bin/env bash
# Found:      webdataset 1.0.2
# Behaviour:  `TarWriter` accepts keys with a dot in the file name, but `WebDataset` does not return these samples:
#             it splits names at the first dot, so "n01/crop.5" and "n01/crop.7" become ONE sample "n01/crop" with the
#             fields "5.cls" and "7.cls". Neither side warns.
# Output:     written: n01/crop.5, n01/crop.7
#             read: n01/crop with 5.cls, 5.txt, 7.cls, 7.txt
# In foveal:  Such a shard is rejected by name before the first step (docs/training.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import webdataset

keys = ["n01/crop.5", "n01/crop.7"]
with webdataset.TarWriter("shard.tar") as shard:
    for label, key in enumerate(keys):
        shard.write({"__key__": key, "cls": label, "txt": key})
print(f"written: {', '.join(keys)}")

samples = list(webdataset.WebDataset("shard.tar", shardshuffle=False))
for sample in samples:
    fields = sorted(name for name in sample if not name.startswith("__"))
    print(f"read: {sample['__key__']} with {', '.join(fields)}")
assert [sample["__key__"] for sample in samples] == ["n01/crop"], "dotted keys survive now"
assert {"5.cls", "7.cls"} <= samples[0].keys()
PY
