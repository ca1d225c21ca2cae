// What the kernels are given: sizes in elements, plain pointers, and PyTorch's own parallel loop. Mirrored by
// the ctypes structures of the operators (aggregated_attention/native.py and its neighbours).
#pragma once

#include <cstdint>

struct bfloat16 {
    uint16_t bits;
};

// torch_parallel_for of libtorch (stable C interface since 2.10): runs body over [begin, end) on PyTorch's threads.
typedef void (*ParallelBody)(int64_t begin, int64_t end, void* context);
typedef int32_t (*ParallelFor)(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context);

// A map (B, H, W, heads, dim) or pooled map (B, P, heads, dim); the dimensions of a head stand side by side.
struct Map {
    void* data;
    int64_t batch, row, column, head;  // strides; a pooled map has row = 0
};

struct AttentionCall {
    int64_t batch, height, width, heads, dim, pooled, window;
    int64_t bands;      // parts that the rows of a map are cut into, for more pieces of work than heads and images
    int64_t threads;    // of PyTorch
    int64_t half;       // maps are bfloat16, else float
    Map q, k, v, k_pool, v_pool;
    const float *scale, *query_embedding, *local_bias, *tokens, *token_bias;  // contiguous
    const float* pool_bias;
    int64_t pool_bias_head, pool_bias_query, pool_bias_key;  // strides
    const float* log_length;  // log(length + n) of n = 0 ... window keys inside the map
    Map out;
    float* lse;  // (B, H, W, heads)
    float* workspace;  // as many floats as attention_workspace asks for, aligned to 64 bytes
};

// Backward. Maps of gradients have the dtype of their maps; everything else is float.
struct AttentionBackwardCall {
    AttentionCall forward;  // `out` unused, `lse` as forward wrote it
    Map grad, grad_q, grad_k, grad_v;
    float *grad_k_pool, *grad_v_pool;  // (bands, B, heads, P, dim): to be added up over bands
    float* grad_pool_bias;             // (heads, P, H * W)
    float* continued;  // (threads, P, H * W): what a thread adds to a band's bias that an earlier thread began
    float* sums;       // (threads, heads, 1 + dim + 2 area + area * dim), zero: scale, embedding, local bias, token bias,
                       // tokens (area, dim); to be added up over threads
    float* workspace;
};
