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

// A map (B, H, W, heads, dim) or pooled map (B, P, heads, dim); the dimensions of a head stand side by side. A map
// (B, H, W, C) has head = 0.
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
    // The position bias of query (y, x) and pooled key p: pool_bias[head * h + row * y + column * x + bias_keys[p]].
    const float* pool_bias;
    int64_t bias_head, bias_row, bias_column, bias_size;  // bias_size: floats that may be read
    const int64_t* bias_keys;
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
    // The gradient of the position bias, found by the same rule with these numbers. Either every number of it belongs to
    // one query and one key: then grad_bias_thread is 0. Or many share it: then every thread has a copy of its own, zero
    // before, with room for a tile behind it, to be added up; from copy to copy it is grad_bias_thread.
    float* grad_pool_bias;
    int64_t grad_bias_thread, grad_bias_head, grad_bias_row;
    const int64_t* grad_bias_keys;
    float* sums;       // (threads, heads, 1 + dim + 2 area + area * dim), zero: scale, embedding, local bias, token bias,
                       // tokens (area, dim); to be added up over threads
    float* workspace;
};

// Depthwise convolutions of a map (B, H, W, C): groups of channels, each with its own odd kernel size and zero padding.
//     y = convolution(x) + bias (+ x),   out = y, or gelu(y), or gelu(y) * value
// With a scale, x is gelu(x) * scale + shift of what the map holds (forward only).
struct DepthwiseCall {
    int64_t batch, height, width, groups;
    int64_t bands;    // parts that the rows of a map are cut into, where there are few images and channels
    int64_t threads;  // of PyTorch
    int64_t half;     // maps are bfloat16, else float
    int64_t identity, gelu;
    const int64_t *kernels, *channels;  // of every group
    Map x, value, out;                  // without a gate value.data is null
    const float *scale, *shift;         // (C), or null
    const float *weight, *bias;         // group behind group: (channels of the group, kernel * kernel); (C)
    int64_t weight_batch, bias_batch;   // strides from sample to sample, 0 where all samples share
    float* workspace;                   // as many floats as depthwise_..._workspace asks for, aligned to 64 bytes
};

struct DepthwiseBackwardCall {
    DepthwiseCall forward;  // `out` unused
    Map grad, grad_x, grad_value;
    // Shaped as weight and bias behind a dimension to be added up: (threads), zero before; or (bands, B) where every
    // sample has its own.
    float *grad_weight, *grad_bias;
    float* workspace;
};

// GELU and adaptive average pooling. Forward reads x and writes `pooled`; backward reads x and the gradient in `pooled`
// and writes grad_x.
struct GeluPoolCall {
    int64_t batch, height, width, channels, pool_height, pool_width, threads;
    int64_t half;  // maps are bfloat16, else float
    Map x, pooled, grad_x;
    float* workspace;
};
