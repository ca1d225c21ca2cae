// Depthwise convolution of one row of one vector of channels: the loops that take the time.
//
// PIXELS neighbouring outputs are summed at once. Every loaded pixel meets the numbers of one kernel row, which stay in
// registers, so a load feeds up to K multiply-adds. At the map's sides the pixels outside are left out, not multiplied.

#if defined(__clang__)
#define FOVEAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FOVEAL_UNROLL _Pragma("GCC unroll 64")
#endif

// out (width, LANES) = bias + convolution; rows[i] is the row that kernel row i meets, null outside the map.
typedef void (*ConvolveRow)(const float* const* rows, int64_t kernel, int64_t width, const float* weights,
                            const float* bias, float* out);
// The gradients behind it, of the row that x holds: out (width, LANES) = gradient of x, and sums (K * K, LANES) +=
// gradient of the weights. rows[i] is the row of outputs' gradients that kernel row K - 1 - i has led to.
typedef void (*BackwardRow)(const float* const* rows, int64_t kernel, int64_t width, const float* weights,
                            const float* x, float* out, float* sums);

template <int K, int PIXELS, bool INNER>
inline void convolve_block(const float* const* rows, int64_t x, int64_t width, const float* weights, Vec bias,
                           Vec (&out)[PIXELS]) {
    constexpr int RADIUS = K / 2, REACH = PIXELS + K - 1;
    const int64_t low = RADIUS - x, high = width + RADIUS - x;
    Vec acc[PIXELS];
    FOVEAL_UNROLL
    for (int p = 0; p < PIXELS; ++p) acc[p] = bias;
    for (int ky = 0; ky < K; ++ky) {
        if (!rows[ky]) continue;
        const float* row = rows[ky] + (x - RADIUS) * LANES;
        Vec w[K];
        FOVEAL_UNROLL
        for (int kx = 0; kx < K; ++kx) w[kx] = load(weights + (ky * K + kx) * LANES);
        FOVEAL_UNROLL
        for (int j = 0; j < REACH; ++j) {
            if (!INNER && (j < low || j >= high)) continue;
            const Vec pixel = load(row + j * LANES);
            FOVEAL_UNROLL
            for (int kx = 0; kx < K; ++kx)
                if (j - kx >= 0 && j - kx < PIXELS) acc[j - kx] += w[kx] * pixel;
        }
    }
    FOVEAL_UNROLL
    for (int p = 0; p < PIXELS; ++p) out[p] = acc[p];
}

template <int K, int PIXELS>
void convolve_row(const float* const* rows, int64_t, int64_t width, const float* weights, const float* bias,
                  float* out) {
    const Vec start = load(bias);
    for (int64_t x = 0; x < width; x += PIXELS) {
        Vec sums[PIXELS];
        if (x >= K / 2 && x + PIXELS + K / 2 <= width) {
            convolve_block<K, PIXELS, true>(rows, x, width, weights, start, sums);
            FOVEAL_UNROLL
            for (int p = 0; p < PIXELS; ++p) store(out + (x + p) * LANES, sums[p]);
        } else {
            convolve_block<K, PIXELS, false>(rows, x, width, weights, start, sums);
            FOVEAL_UNROLL
            for (int p = 0; p < PIXELS; ++p)
                if (x + p < width) store(out + (x + p) * LANES, sums[p]);
        }
    }
}

template <int K, int PIXELS, bool INNER>
inline void backward_block(const float* const* rows, int64_t x, int64_t width, const float* weights, const float* map,
                           float* out, float* sums) {
    constexpr int RADIUS = K / 2, REACH = PIXELS + K - 1;
    const int64_t low = RADIUS - x, high = width + RADIUS - x;
    Vec acc[PIXELS], pixels[PIXELS];
    FOVEAL_UNROLL
    for (int p = 0; p < PIXELS; ++p) {
        acc[p] = Vec{};
        pixels[p] = INNER || x + p < width ? load(map + (x + p) * LANES) : Vec{};
    }
    for (int i = 0; i < K; ++i) {
        if (!rows[i]) continue;
        const float* row = rows[i] + (x - RADIUS) * LANES;
        const int64_t tap = (K - 1 - i) * K;
        Vec w[K], s[K];
        FOVEAL_UNROLL
        for (int kx = 0; kx < K; ++kx) {
            w[kx] = load(weights + (tap + kx) * LANES);
            s[kx] = load(sums + (tap + kx) * LANES);
        }
        FOVEAL_UNROLL
        for (int j = 0; j < REACH; ++j) {
            if (!INNER && (j < low || j >= high)) continue;
            const Vec grad = load(row + j * LANES);
            FOVEAL_UNROLL
            for (int p = 0; p < PIXELS; ++p)
                if (p - j + K - 1 >= 0 && p - j + K - 1 < K) {
                    acc[p] += w[p - j + K - 1] * grad;
                    s[p - j + K - 1] += pixels[p] * grad;
                }
        }
        FOVEAL_UNROLL
        for (int kx = 0; kx < K; ++kx) store(sums + (tap + kx) * LANES, s[kx]);
    }
    FOVEAL_UNROLL
    for (int p = 0; p < PIXELS; ++p)
        if (INNER || x + p < width) store(out + (x + p) * LANES, acc[p]);
}

template <int K, int PIXELS>
void backward_row(const float* const* rows, int64_t, int64_t width, const float* weights, const float* map, float* out,
                  float* sums) {
    for (int64_t x = 0; x < width; x += PIXELS)
        if (x >= K / 2 && x + PIXELS + K / 2 <= width)
            backward_block<K, PIXELS, true>(rows, x, width, weights, map, out, sums);
        else
            backward_block<K, PIXELS, false>(rows, x, width, weights, map, out, sums);
}

// Kernels of any size, a pixel at a time.

inline void convolve_row_any(const float* const* rows, int64_t kernel, int64_t width, const float* weights,
                             const float* bias, float* out) {
    const int64_t radius = kernel / 2;
    for (int64_t x = 0; x < width; ++x) {
        const int64_t first = x < radius ? radius - x : 0, last = x + radius < width ? kernel : width + radius - x;
        Vec sum = load(bias);
        for (int64_t i = 0; i < kernel; ++i) {
            if (!rows[i]) continue;
            for (int64_t j = first; j < last; ++j)
                sum += load(weights + (i * kernel + j) * LANES) * load(rows[i] + (x + j - radius) * LANES);
        }
        store(out + x * LANES, sum);
    }
}

inline void backward_row_any(const float* const* rows, int64_t kernel, int64_t width, const float* weights,
                             const float* map, float* out, float* sums) {
    const int64_t radius = kernel / 2;
    for (int64_t x = 0; x < width; ++x) {
        const int64_t first = x < radius ? radius - x : 0, last = x + radius < width ? kernel : width + radius - x;
        const Vec pixel = load(map + x * LANES);
        Vec sum = {};
        for (int64_t i = 0; i < kernel; ++i) {
            if (!rows[i]) continue;
            for (int64_t j = first; j < last; ++j) {
                const int64_t tap = (kernel - 1 - i) * kernel + kernel - 1 - j;
                const Vec grad = load(rows[i] + (x + j - radius) * LANES);
                sum += load(weights + tap * LANES) * grad;
                store(sums + tap * LANES, load(sums + tap * LANES) + pixel * grad);
            }
        }
        store(out + x * LANES, sum);
    }
}

struct RowKernels {
    ConvolveRow convolve;
    BackwardRow backward;
};

template <int PIXELS>
inline RowKernels row_kernels_of(int64_t kernel) {
    switch (kernel) {
        case 1: return {convolve_row<1, PIXELS>, backward_row<1, PIXELS>};
        case 3: return {convolve_row<3, PIXELS>, backward_row<3, PIXELS>};
        case 5: return {convolve_row<5, PIXELS>, backward_row<5, PIXELS>};
        case 7: return {convolve_row<7, PIXELS>, backward_row<7, PIXELS>};
    }
    return {convolve_row_any, backward_row_any};
}

// The loops for a kernel size, in blocks of as many pixels as leave the least of the last block empty.
inline RowKernels row_kernels(int64_t kernel, int64_t width) {
    const int64_t by4 = round_up(width, 4), by7 = round_up(width, 7), by8 = round_up(width, 8);
    if (by8 <= by7 && by8 <= by4) return row_kernels_of<8>(kernel);
    return by7 <= by4 ? row_kernels_of<7>(kernel) : row_kernels_of<4>(kernel);
}
