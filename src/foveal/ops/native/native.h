// The arguments of the kernels: sizes in elements, plain pointers, and PyTorch's own parallel loop. Mirrored by the
// ctypes structures of the operators (such as aggregated_attention/cpu.py).
#pragma once

#include <cstdint>

struct bfloat16 {
    uint16_t bits;
};

// torch_parallel_for of libtorch (stable C interface since 2.10): runs body over [begin, end) on PyTorch's threads.
typedef void (*ParallelBody)(int64_t begin, int64_t end, void* context);
typedef int32_t (*ParallelFor)(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context);

// A map (B, H, W, heads, dim) or pooled map (B, P, heads, dim); the dimensions of a head are contiguous. A map
// (B, H, W, C) has head = 0.
struct Map {
    void* data;
    int64_t batch, row, column, head;  // strides; a pooled map has row = 0
};

// One axis of a position bias that belongs to another map, the reference, and is resized to this one. Pixel i lies
// between reference pixels pixels[i] and pixels[i] + 1, cell i likewise between two reference cells; shares are those of
// the second. The bias of reference pixel r and a reference cell is at row or column step * r + the cell's place.
struct ResizedAxis {
    int64_t reference, pool, step;  // reference pixels, cells of this map, places per reference pixel
    const int64_t* pixels;
    const float* pixel_shares;
    const int64_t* cells;  // (2, pool): places of the first and of the second reference cell
    const float* cell_shares;
};

struct Resize {
    int64_t table_columns;  // 0: the bias is not resized
    ResizedAxis rows, columns;  // columns have step 1
};

struct AttentionCall {
    int64_t batch, height, width, heads, dim, pooled;
    int64_t window;     // 0: none, k and v are not read
    int64_t bands;      // that the rows of a map are cut into, for more pieces of work than heads and images
    int64_t threads;    // of PyTorch
    int64_t half;       // maps are bfloat16, else float
    Map q, k, v, k_pool, v_pool;
    const float *scale, *query_embedding, *local_bias, *tokens, *token_bias;  // contiguous
    // The position bias of query (y, x) and pooled key p: pool_bias[head * h + row * y + column * x + bias_keys[p]].
    const float* pool_bias;
    int64_t bias_head, bias_row, bias_column, bias_size;  // bias_size: floats that may be read
    const int64_t* bias_keys;
    Resize resize;  // of a table (heads, rows, table_columns) in pool_bias; then only bias_head counts of the above
    const float* log_length;  // log(length + n) of n = 0 ... window keys inside the map
    Map out;
    float* lse;  // (B, H, W, heads)
    float* workspace;  // as many floats as attention_..._workspace returns, aligned to 64 bytes
};

// Backward. Maps of gradients have the dtype of their maps; everything else is float.
struct AttentionBackwardCall {
    AttentionCall forward;  // `out` unused, `lse` as forward wrote it
    Map grad, grad_q, grad_k, grad_v;
    float *grad_k_pool, *grad_v_pool;  // (bands, B, heads, P, dim): to be summed over bands
    // The gradient of the position bias, indexed by the same rule with these numbers. Either every number belongs to one
    // query and one key: then grad_bias_thread is 0. Or several share it: then every thread has its own copy, initially
    // zero and followed by room for a tile, to be summed; grad_bias_thread is the stride between copies.
    float* grad_pool_bias;
    int64_t grad_bias_thread, grad_bias_head, grad_bias_row;
    const int64_t* grad_bias_keys;
    float* sums;       // (threads, heads, 1 + dim + 2 area + area * dim), initially zero: scale, embedding, local bias,
                       // token bias, tokens (area, dim); to be summed over threads
    float* workspace;
};

// Depthwise convolutions of a map (B, H, W, C): groups of channels, each with its own odd kernel size and zero padding.
//     y = convolution(x) + bias (+ x),   out = y, or gelu(y), or gelu(y) * value
// With a scale, x is replaced by gelu(x) * scale + shift.
struct DepthwiseCall {
    int64_t batch, height, width, groups;
    int64_t bands;    // that the rows of a map are cut into, if there are few images and channels
    int64_t threads;  // of PyTorch
    int64_t half;     // maps are bfloat16, else float
    int64_t identity, gelu;
    const int64_t *kernels, *channels;  // per group
    Map x, value, out;                  // without a gate value.data is null
    const float *scale, *shift;         // (C), or null
    const float *weight, *bias;         // groups concatenated: (channels, kernel * kernel); (C)
    int64_t weight_batch, bias_batch;   // strides between samples, 0 if all samples share
    double* moments;                    // (threads, 2, C): sums of out and of its squares, initially zero; or null
    float* workspace;                   // as many floats as depthwise_..._workspace returns, aligned to 64 bytes
};

struct DepthwiseBackwardCall {
    DepthwiseCall forward;  // `out` unused
    Map grad, grad_x, grad_value;
    // Shaped like weight and bias with leading dimensions to be summed: (threads), initially zero; or (bands, B) if
    // every sample has its own.
    float *grad_weight, *grad_bias;
    // With gelu: added to the gradient is out * slope + offset, of a norm's statistics; (C), or null.
    const float *slope, *offset;
    // With a scale, that of a norm with this mean and inverse deviation (C): sums of the gradient of the norm, and of it
    // times the normalised number, (threads, 2, C), initially zero. grad_x is the gradient of the norm.
    const float *mean, *inverse;
    double* norm_sums;
    float* workspace;
};

// Batch normalisation of x, or gelu(x), over pixels: see batch_norm.h.
struct BatchNormCall {
    int64_t pixels, channels, threads;
    int64_t slots;  // of the sums
    int64_t gelu;
    double epsilon;
    const float* x;  // (pixels, channels), contiguous
    float* grad;     // likewise
    double* sums;    // (slots, 2, channels)
    const float *gain, *bias;
    float* constants;  // (5, channels)
    float *grad_gain, *grad_bias;
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

// Convolutional GLU for inference, in float: out = x + W2 (gelu(convolution(g)) * v) + b2, [g, v] = W1 norm(x) + b1.
// The gain and bias of the norm are part of W1 and b1.
struct GluCall {
    int64_t batch, height, width, channels;
    int64_t panels;  // of hidden channels, 2 vectors each; the channels beyond the last one have weights of 0
    int64_t bands;   // that the rows of an image are cut into
    int64_t rows;    // computed together
    int64_t threads;
    double epsilon;
    const float* x;
    float* out;  // both (B, H, W, C), contiguous
    // Weights in panels (panel, inputs, 2 vectors), first those of the gate, then those of the value; biases alike.
    const float *weight1, *bias1;
    const float *kernels, *kernel_biases;  // (vectors, 9, LANES), (vectors, LANES)
    const float *weight2, *bias2;          // in panels too; all hidden channels are inputs
    float* workspace;
};

// TransXNet's multi-scale feed-forward network for inference, in float, with h = gelu(W1 norm(x) + b1) * scale + shift:
// out = x + W2 gelu(convolution(h)) + b2. The norm is a GroupNorm with one group; its gain and bias are part of W1 and b1.
struct FfnCall {
    int64_t batch, height, width, channels;
    int64_t panels;    // of hidden channels, 2 vectors each, with one kernel size each; padding has weights of 0
    int64_t together;  // panels that the second product takes together
    int64_t rows;      // and pixels
    int64_t images;    // and, at most, images
    int64_t parts;     // that the panels are cut into, for more pieces of work
    int64_t area;      // of the largest kernel
    int64_t threads;
    double epsilon;
    const float* x;  // (B, H, W, C), contiguous
    float* out;      // (parts, B, H, W, C): to be summed over parts
    const int64_t* kernels;              // per panel
    const float *weight1, *bias1;        // in panels (panel, inputs, 2 vectors) and (panel, 2 vectors)
    const float *scale, *shift;          // (panel, 2 vectors)
    const float *taps, *tap_biases;      // (vectors, area, LANES), of which a panel uses its own kernel's; (vectors, LANES)
    const float *weight2, *bias2;        // in panels of outputs; all hidden channels are inputs
    float* workspace;
};

// Input-dependent depthwise convolution for inference, in float: kernels and biases are sums over groups of
// softmax(W2 gelu(W1 pooled x + b1) + b2) * learned.
struct IdconvCall {
    int64_t batch, height, width, channels;
    int64_t kernel, groups, squeezed;  // squeezed: outputs of the first layer
    int64_t parts;                     // that the channels are cut into, for more pieces of work than images
    int64_t threads;
    Map x;
    float* out;                    // (B, H, W, C), contiguous
    const float *weight1, *bias1;  // in panels of outputs
    const float *weight2, *bias2;  // (panels of channels, groups, squeezed, 2 vectors) and (panels, groups, 2 vectors)
    const float* learned;          // (panels, groups, 2, K * K + 1, LANES), the bias last
    float* workspace;
};

// Rows of `channels` numbers to uint8: round(x * inverse_scale) + zero_point; with a weight, of their LayerNorm.
struct QuantizeCall {
    int64_t rows, channels, threads;
    int64_t half;    // x is bfloat16, else float
    int64_t stride;  // between rows of x
    int64_t zero_point;
    const void* x;
    uint8_t* out;                // (rows, channels), contiguous
    const float *weight, *bias;  // (channels), or null
    float inverse_scale, eps;
    float* workspace;  // as many floats as quantize_workspace returns, aligned to 64 bytes
};
