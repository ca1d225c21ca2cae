#!/usr/bin/env bash
# Found:      Pillow 12.3.0
# Behaviour:  Grey TIFFs whose number 0 is white are inverted while they are read if they have 8 bits per pixel, and are
#             returned as stored if they have 16. Those of 12 bits are returned in the mode of 16 bits, I;16, with numbers up
#             to 4095, so that their upper 8 bits are nearly black.
# Why:        Modes say how numbers are stored, not which of them is white; that is in the tags 258 and 262 of the file.
# Output:     8 bits, white is zero: L, 255 to 0
#             16 bits, white is zero: I;16, 0 to 65535
#             12 bits, black is zero: I;16, 0 to 4095
# In foveal:  Levels are scaled and inverted by the tags (src/foveal/tasks/pixels.py).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==12.3.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import io
import struct

from PIL import Image

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1


def tiff(bits, photometric, pixels):
    """An uncompressed grey TIFF of two pixels in one row, little endian."""
    tags = {
        256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 1, 279: len(pixels),
    }  # width, height, bits, compression, photometric, offset, samples, rows, bytes
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + pixels


# The first pixel is the number 0, the second the largest one.
for bits, photometric, pixels, expected in (
    (8, WHITE_IS_ZERO, b"\x00\xff", ("L", 255, 0)),
    (16, WHITE_IS_ZERO, b"\x00\x00\xff\xff", ("I;16", 0, 65535)),
    (12, BLACK_IS_ZERO, b"\x00\x0f\xff", ("I;16", 0, 4095)),
):
    with Image.open(io.BytesIO(tiff(bits, photometric, pixels))) as image:
        found = image.mode, image.getpixel((0, 0)), image.getpixel((1, 0))
    meaning = "white" if photometric == WHITE_IS_ZERO else "black"
    print(f"{bits} bits, {meaning} is zero: {found[0]}, {found[1]} to {found[2]}")
    assert found == expected, f"{bits} bits: not {expected} as before"
PY
