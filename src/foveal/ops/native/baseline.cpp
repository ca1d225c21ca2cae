// The kernels for any processor: SSE2 on x86-64, NEON on Arm.
#include "kernels.h"

#define FOVEAL_LANES 4
#define FOVEAL_ISA baseline
#include "isa.h"

const Kernels* baseline_kernels() { return &baseline::kernels; }
