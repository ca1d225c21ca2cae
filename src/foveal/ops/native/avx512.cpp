// The kernels for processors with AVX-512.
#include "kernels.h"

#if defined(__x86_64__)
#define FOVEAL_LANES 16
#define FOVEAL_ISA avx512
#if defined(__clang__)
// Clang takes vectors as wide as they are written, and does not know the option that GCC needs for it.
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,prefer-vector-width=512")
#endif
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Kernels* avx512_kernels() {  // asks for every extension that the target above lets the compiler use
    __builtin_cpu_init();
    const bool there = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    return there ? &avx512::kernels : nullptr;
}
#else
const Kernels* avx512_kernels() { return nullptr; }
#endif
