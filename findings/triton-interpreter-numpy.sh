#!/usr/bin/env bash
# Found:      triton 3.6.0 with numpy 2.4.6; works with numpy 2.3.5. Fixed in triton 3.9.0 or earlier.
# Behaviour:  In the interpreter (TRITON_INTERPRET=1) a loop whose bound is an argument of the kernel raises
#             TypeError. PyTorch 2.11 requires triton 3.6 and does not pin NumPy, so a new environment has both.
# Why:        The interpreter stores scalars as one-element arrays, and NumPy 2.4 no longer converts these to int.
# Output:     numpy 2.4.6: TypeError('only 0-dimensional arrays can be converted to Python scalars')
#             numpy 2.3.5: ok
# In foveal:  `make test-interpret` runs the Triton kernels this way, with the pinned triton 3.9.0 (CONTRIBUTING.md).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet triton==3.6.0
cd "$folder"
cat > loop.py <<'PY'
import triton


@triton.jit
def kernel(bound):
    for _ in range(bound):
        pass


kernel[(1,)](3)
print("ok")
PY
export TRITON_INTERPRET=1
"$folder/venv/bin/pip" install --quiet numpy==2.3.5
"$folder/venv/bin/python" loop.py
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
if "$folder/venv/bin/python" loop.py 2> error.txt; then
    echo "The loop runs with numpy 2.4.6 now." >&2
    exit 1
fi
tail -n 1 error.txt
grep --quiet "only 0-dimensional arrays can be converted to Python scalars" error.txt
