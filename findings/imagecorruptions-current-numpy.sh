#!/usr/bin/env bash
# Found:      imagecorruptions 1.1.2 (its latest release) with numpy 2.4.6 and scikit-image 0.26.0
# Behaviour:  Two of the fifteen corruptions of ImageNet-C fail on a valid image: fog and glass blur. The package
#             allows any version of both libraries and installs and imports without a warning, and the other thirteen
#             run.
# Output:     fog: AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.
#             glass_blur: TypeError: gaussian() got an unexpected keyword argument 'multichannel'
#             13 others: ok
# In foveal:  `foveal evaluate --corrupt` uses imagecorruptions-imaug, a maintained form of it (docs/evaluation.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imagecorruptions==1.1.2 numpy==2.4.6 scikit-image==0.26.0 'setuptools<81'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import imagecorruptions
import numpy as np

image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
failed, fine = {}, 0
for name in sorted(imagecorruptions.get_corruption_names()):
    try:
        imagecorruptions.corrupt(image, corruption_name=name, severity=1)
        fine += 1
    except (AttributeError, TypeError) as error:
        failed[name] = type(error)
        print(f"{name}: {type(error).__name__}: {error}")
print(f"{fine} others: ok")
assert failed == {"fog": AttributeError, "glass_blur": TypeError} and fine == 13, "the corruptions have changed"
PY
