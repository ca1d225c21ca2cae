#!/usr/bin/env bash
# Found:      webdataset 1.0.2
# Behaviour:  `TarWriter` gives every file a fractional modification time, which tar stores in an extended (PAX)
#             header of 1,024 bytes before the file. A class label of one byte takes 2,048 bytes instead of 1,024
#             (1,281,167 labels of ImageNet: 1.3 GB more), and readers that expect a plain ustar header for each file
#             fail. `TarWriter(..., mtime=0)` writes no extended headers.
# Output:     by default: 2058 bytes for each label, {'mtime': '1795823752.3389287'}
#             with mtime=0: 1034 bytes for each label, {}
# In foveal:  The shard index skips these headers (src/foveal/tasks/classification/data/tar_index.py).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os
import tarfile

import webdataset

COUNT = 1000


def write(**options):
    """Bytes per label of a shard, and the extended header of its first file."""
    with webdataset.TarWriter("shard.tar", **options) as shard:
        for number in range(COUNT):
            shard.write({"__key__": f"{number:06d}", "cls": number % 10})
    with tarfile.open("shard.tar") as tar:
        return os.path.getsize("shard.tar") // COUNT, tar.next().pax_headers


for title, options in (("by default", {}), ("with mtime=0", {"mtime": 0})):
    size, header = write(**options)
    print(f"{title}: {size} bytes for each label, {header}")
    assert (size > 2000) == (not options) and bool(header) == (not options), "headers have changed"
PY
