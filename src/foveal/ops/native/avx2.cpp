// The kernels for processors with AVX2 and FMA.
#include "kernels.h"

#if defined(__x86_64__)
#define FOVEAL_LANES 8
#define FOVEAL_ISA avx2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi2")
#endif
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Kernels* avx2_kernels() {  // asks for every extension that the target above lets the compiler use
    __builtin_cpu_init();
    const bool there =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    return there ? &avx2::kernels : nullptr;
}
#else
const Kernels* avx2_kernels() { return nullptr; }
#endif
