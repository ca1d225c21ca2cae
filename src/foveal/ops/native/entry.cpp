// What Python calls: plain C functions that choose the instruction set and share the work among PyTorch's threads.
#include <cstring>
#include <initializer_list>

#include "kernels.h"

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

// Every thread's share is fixed by its number, so results do not depend on which one comes first.
template <class Call>
void share(const Call& call, int64_t threads, void (*run)(const Call&, int64_t), ParallelFor parallel_for) {
    Work<Call> work{&call, run};
    parallel_for(0, threads, 1, [](int64_t begin, int64_t end, void* context) {
        const auto* w = static_cast<const Work<Call>*>(context);
        for (int64_t thread = begin; thread < end; ++thread) w->run(*w->call, thread);
    }, &work);
}

}  // namespace

// The instruction set in use. With a name ("avx512", "avx2", "baseline") it is changed first; null if it is not there.
FOVEAL_EXPORT const char* foveal_instruction_set(const char* name) {
    if (!name) return chosen->name;
    for (const Kernels* k : {avx512_kernels(), avx2_kernels(), baseline_kernels()})
        if (k && !std::strcmp(k->name, name)) return (chosen = k)->name;
    return nullptr;
}

// Queries that attention takes together, in the instruction set in use.
FOVEAL_EXPORT int64_t foveal_tile() { return chosen->tile; }

// For every kernel: the size of its structure, by which Python sees whether it was built from the same sources; the floats
// of workspace that a call needs; and the call.
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
FOVEAL_KERNEL(gelu_pool, GeluPoolCall, threads, gelu_pool_workspace)
FOVEAL_KERNEL(gelu_pool_backward, GeluPoolCall, threads, gelu_pool_workspace)
