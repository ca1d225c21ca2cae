// The library: the kernels for every instruction set, and the plain C functions that Python calls, which choose the
// instruction set and share the work among PyTorch's threads.
//
// Standard headers are included before the target regions: the linker keeps one copy of an inline function, and it must
// be one that every processor can run.
#include <cstring>
#include <initializer_list>

#include "native.h"

// The kernels of one instruction set.
struct Kernels {
    const char* name;
    int64_t tile;  // queries that attention takes together
    int64_t (*attention_forward_workspace)(const AttentionCall&);
    void (*attention_forward)(const AttentionCall&, int64_t thread);
    int64_t (*attention_backward_workspace)(const AttentionBackwardCall&);
    void (*attention_backward)(const AttentionBackwardCall&, int64_t thread);
    int64_t (*depthwise_forward_workspace)(const DepthwiseCall&);
    void (*depthwise_forward)(const DepthwiseCall&, int64_t thread);
    int64_t (*depthwise_backward_workspace)(const DepthwiseBackwardCall&);
    void (*depthwise_backward)(const DepthwiseBackwardCall&, int64_t thread);
    int64_t (*batch_norm_workspace)(const BatchNormCall&);
    void (*batch_norm_moments)(const BatchNormCall&, int64_t thread);
    void (*batch_norm_constants)(const BatchNormCall&, int64_t thread);
    void (*batch_norm_backward)(const BatchNormCall&, int64_t thread);
    int64_t (*gelu_pool_workspace)(const GeluPoolCall&);
    void (*gelu_pool)(const GeluPoolCall&, int64_t thread);
    void (*gelu_pool_backward)(const GeluPoolCall&, int64_t thread);
    int64_t (*quantize_workspace)(const QuantizeCall&);
    void (*quantize)(const QuantizeCall&, int64_t thread);
    int64_t (*convolutional_glu_workspace)(const GluCall&);
    void (*convolutional_glu)(const GluCall&, int64_t thread);
    int64_t (*multiscale_ffn_workspace)(const FfnCall&);
    void (*multiscale_ffn)(const FfnCall&, int64_t thread);
    int64_t (*idconv_workspace)(const IdconvCall&);
    void (*idconv)(const IdconvCall&, int64_t thread);
};

#define FOVEAL_TEXT(x) #x
#define FOVEAL_NAME(x) FOVEAL_TEXT(x)

#if defined(__x86_64__)
#define FOVEAL_LANES 16
#define FOVEAL_ISA avx512
#if defined(__clang__)
// Clang uses vectors as wide as they are written, and does not know the option that GCC needs for it.
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
#endif

// Any processor: SSE2 on x86-64, NEON on Arm.
#define FOVEAL_LANES 4
#define FOVEAL_ISA baseline
#include "isa.h"

// Null if this processor cannot run them: each set asks for every extension that its target lets the compiler use.
const Kernels* avx512_kernels() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2"))
        return &avx512::kernels;
#endif
    return nullptr;
}

const Kernels* avx2_kernels() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return &avx2::kernels;
#endif
    return nullptr;
}

const Kernels* baseline_kernels() { return &baseline::kernels; }

#define FOVEAL_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

const Kernels* best() {
    if (const Kernels* k = avx512_kernels()) return k;
    if (const Kernels* k = avx2_kernels()) return k;
    return baseline_kernels();
}

const Kernels* chosen = best();

template <class Call>
struct Work {
    const Call* call;
    void (*run)(const Call&, int64_t thread);
};

// A thread's share depends only on its number, so results do not depend on the order in which threads run.
template <class Call>
void share(const Call& call, int64_t threads, void (*run)(const Call&, int64_t), ParallelFor parallel_for) {
    Work<Call> work{&call, run};
    parallel_for(0, threads, 1, [](int64_t begin, int64_t end, void* context) {
        const auto* w = static_cast<const Work<Call>*>(context);
        for (int64_t thread = begin; thread < end; ++thread) w->run(*w->call, thread);
    }, &work);
}

}  // namespace

// The instruction set in use. With a name ("avx512", "avx2", "baseline") it is changed first; null if unavailable.
FOVEAL_EXPORT const char* foveal_instruction_set(const char* name) {
    if (!name) return chosen->name;
    for (const Kernels* k : {avx512_kernels(), avx2_kernels(), baseline_kernels()})
        if (k && !std::strcmp(k->name, name)) return (chosen = k)->name;
    return nullptr;
}

// Queries that attention processes together in the instruction set in use.
FOVEAL_EXPORT int64_t foveal_tile() { return chosen->tile; }

// For every kernel: the size of its structure, by which Python checks that it was built from the same sources; the
// workspace of a call in floats; and the call.
#define FOVEAL_KERNEL(name, Call, threads, workspace)                                                           \
    FOVEAL_EXPORT int64_t foveal_##name##_size() { return sizeof(Call); }                                       \
    FOVEAL_EXPORT int64_t foveal_##name##_workspace(const Call* call) { return chosen->workspace(*call); }      \
    FOVEAL_EXPORT void foveal_##name(const Call* call, ParallelFor parallel_for) {                              \
        share(*call, call->threads, chosen->name, parallel_for);                                                \
    }

FOVEAL_KERNEL(attention_forward, AttentionCall, threads, attention_forward_workspace)
FOVEAL_KERNEL(attention_backward, AttentionBackwardCall, forward.threads, attention_backward_workspace)
FOVEAL_KERNEL(depthwise_forward, DepthwiseCall, threads, depthwise_forward_workspace)
FOVEAL_KERNEL(depthwise_backward, DepthwiseBackwardCall, forward.threads, depthwise_backward_workspace)
FOVEAL_KERNEL(batch_norm_moments, BatchNormCall, threads, batch_norm_workspace)
FOVEAL_KERNEL(batch_norm_constants, BatchNormCall, threads, batch_norm_workspace)
FOVEAL_KERNEL(batch_norm_backward, BatchNormCall, threads, batch_norm_workspace)
FOVEAL_KERNEL(gelu_pool, GeluPoolCall, threads, gelu_pool_workspace)
FOVEAL_KERNEL(gelu_pool_backward, GeluPoolCall, threads, gelu_pool_workspace)
FOVEAL_KERNEL(quantize, QuantizeCall, threads, quantize_workspace)
FOVEAL_KERNEL(convolutional_glu, GluCall, threads, convolutional_glu_workspace)
FOVEAL_KERNEL(multiscale_ffn, FfnCall, threads, multiscale_ffn_workspace)
FOVEAL_KERNEL(idconv, IdconvCall, threads, idconv_workspace)
