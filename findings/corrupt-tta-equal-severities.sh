#!/usr/bin/env bash
# Found:      corrupt-tta 0.1.7 (its latest release) with numpy 2.4.6
# Behaviour:  Severities 2, 3 and 4 of motion blur are one corruption, and so are severities 3 and 4 of fog: with the
#             same seed they return the same pixels. In the published code of ImageNet-C, whose parameters the package
#             lists, they differ by the sigma of the blur and by the decay of the fog's noise.
# Output:     motion_blur: 2 = 3 = 4
#             fog: 3 = 4
# Reason:     The helper `cv2_motion_blur` does not use its argument `sigma`, and `fog` calls `plasma_fractal` without
#             the decay of its severity.
# In foveal:  `foveal evaluate --corrupt` uses imagecorruptions-imaug instead (docs/evaluation.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet corrupt-tta==0.1.7 numpy==2.4.6 scikit-image==0.26.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from corrupt_tta import corrupt

image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
equal = {}
for name in ("motion_blur", "fog", "zoom_blur", "contrast"):
    results = []
    for severity in range(1, 6):
        np.random.seed(0)
        results.append(corrupt(image, severity=severity, corruption_name=name))
    pairs = [(one, one + 1) for one in range(1, 5) if np.array_equal(results[one - 1], results[one])]
    if pairs:
        equal[name] = sorted({severity for pair in pairs for severity in pair})
        print(f"{name}: {' = '.join(map(str, equal[name]))}")
assert equal == {"motion_blur": [2, 3, 4], "fog": [3, 4]}, "the severities have changed"
PY
