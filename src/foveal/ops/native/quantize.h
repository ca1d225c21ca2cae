// Rows of numbers to uint8, after an optional LayerNorm, in one pass over memory.

typedef uint8_t LooseByteVec __attribute__((vector_size(LANES), aligned(1), may_alias));

// The low byte of every lane.
inline LooseByteVec low_bytes(IntVec x) {
#if FOVEAL_LANES == 8  // GCC would extract the lanes one by one
    typedef uint8_t Bytes __attribute__((vector_size(4 * LANES)));
    const Bytes bytes = reinterpret_cast<Bytes>(x);
    return __builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 16, 20, 24, 28);
#else
    return __builtin_convertvector(x, LooseByteVec);
#endif
}

// round(x / scale) + zero_point, ties to even, clamped to 0 ... 255; what is not a number becomes 255.
struct Levels {
    Vec inverse, lowest, highest;
    int32_t zero_point;
    explicit Levels(const QuantizeCall& p)
        : inverse(splat(p.inverse_scale)),
          lowest(splat(float(-p.zero_point))),
          highest(splat(float(255 - p.zero_point))),
          zero_point(int32_t(p.zero_point)) {}

    LooseByteVec operator()(Vec x) const {
        IntVec bits;
        nearest(largest(smallest(x * inverse, highest), lowest), bits);
        return low_bytes(bits + zero_point);
    }
};

inline void store_bytes(LooseByteVec bytes, uint8_t* to, int64_t c, int64_t channels) {
    if (c + LANES <= channels)
        *reinterpret_cast<LooseByteVec*>(to + c) = bytes;
    else
        for (int64_t i = 0; c + i < channels; ++i) to[c + i] = bytes[i];
}

// One row to floats, normalised with weight and bias.
template <class T>
inline void layer_norm(const QuantizeCall& p, const T* from, float* row) {
    const int64_t wide = round_up(p.channels, LANES);
    Vec total{};
    for (int64_t c = 0; c < wide; c += LANES) {
        const Vec x = load_channels(from, c, p.channels);
        store(row + c, x);
        total += x;
    }
    const float mean = sum(total) / float(p.channels);
    for (int64_t c = p.channels; c < wide; ++c) row[c] = mean;  // adds nothing to the variance
    Vec squares{};
    for (int64_t c = 0; c < wide; c += LANES) {
        const Vec x = load(row + c) - mean;
        squares += x * x;
    }
    const float scale = 1.0f / __builtin_sqrtf(sum(squares) / float(p.channels) + p.eps);
    for (int64_t c = 0; c < wide; c += LANES)
        store(row + c, (load(row + c) - mean) * scale * load_channels(p.weight, c, p.channels) +
                           load_channels(p.bias, c, p.channels));
}

template <class T>
inline void quantize_work(const QuantizeCall& p, int64_t thread) {
    const Levels levels(p);
    float* row = p.workspace + thread * round_up(p.channels, 64);
    for (int64_t i = thread * p.rows / p.threads; i < (thread + 1) * p.rows / p.threads; ++i) {
        const T* from = static_cast<const T*>(p.x) + i * p.stride;
        uint8_t* to = p.out + i * p.channels;
        if (p.weight) layer_norm(p, from, row);
        for (int64_t c = 0; c < p.channels; c += LANES)
            store_bytes(levels(p.weight ? load(row + c) : load_channels(from, c, p.channels)), to, c, p.channels);
    }
}

int64_t quantize_workspace(const QuantizeCall& p) { return p.threads * round_up(p.channels, 64); }

void quantize(const QuantizeCall& p, int64_t thread) {
    p.half ? quantize_work<bfloat16>(p, thread) : quantize_work<float>(p, thread);
}
