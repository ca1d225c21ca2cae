// The kernels, of which every instruction set has its own copy.
#pragma once

#include "native.h"

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
    int64_t (*gelu_pool_workspace)(const GeluPoolCall&);
    void (*gelu_pool)(const GeluPoolCall&, int64_t thread);
    void (*gelu_pool_backward)(const GeluPoolCall&, int64_t thread);
};

// Null where this processor cannot run them.
const Kernels* avx512_kernels();
const Kernels* avx2_kernels();
const Kernels* baseline_kernels();
