// The kernels, of which every instruction set has its own copy.
#pragma once

#include "native.h"

struct Kernels {
    const char* name;
    int64_t (*attention_forward_workspace)(const AttentionCall&);
    void (*attention_forward)(const AttentionCall&, int64_t thread);
    int64_t (*attention_backward_workspace)(const AttentionBackwardCall&);
    void (*attention_backward)(const AttentionBackwardCall&, int64_t thread);
    void (*attention_backward_finish)(const AttentionBackwardCall&, int64_t thread);
};

// Null where this processor cannot run them.
const Kernels* avx512_kernels();
const Kernels* avx2_kernels();
const Kernels* baseline_kernels();
