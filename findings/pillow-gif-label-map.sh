#!/usr/bin/env bash
# Found:      Pillow 12.3.0 (10.1.0 as well)
# Behaviour:  A label map saved as GIF has other class numbers when it is read: the palette is sorted anew, unused entries
#             are dropped, and pixels are numbered accordingly. GIF loses nothing, and PNG keeps the numbers.
# Why:        The writer optimises the palette of small images by default; the colours stay the same.
# Output:     PNG [0, 9, 2, 7, 7, 5]
#             GIF [0, 4, 1, 3, 3, 2]
#             GIF, optimize=False [0, 9, 2, 7, 7, 5]
# In foveal:  Only the greys of a GIF count as class numbers; one with colours is refused
#             (src/foveal/tasks/segmentation/data/label_maps.py).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==12.3.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import io

from PIL import Image

LABELS = [0, 9, 2, 7, 7, 5]


def read_again(kind, **options):
    """The numbers of a label map with a palette after writing and reading it."""
    label_map = Image.new("P", (3, 2))
    label_map.putpalette([channel for number in range(256) for channel in (number, 255 - number, number * 7 % 256)])
    for place, label in enumerate(LABELS):
        label_map.putpixel((place % 3, place // 3), label)
    file = io.BytesIO()
    label_map.save(file, kind, **options)
    with Image.open(file) as image:
        return list(image.tobytes())


for kind, options, expected in (
    ("PNG", {}, LABELS), ("GIF", {}, [0, 4, 1, 3, 3, 2]), ("GIF", {"optimize": False}, LABELS),
):
    found = read_again(kind, **options)
    print(kind + "".join(f", {name}={value}" for name, value in options.items()), found)
    assert found == expected, f"{kind} {options}: other numbers than before"
PY
