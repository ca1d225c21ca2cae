// Batch normalisation in training, of x or of gelu(x): moments that are exact whatever the mean, and the passes around
// them. Pixels are contiguous, (pixels, channels), in float.

// Sum and sum of squares of numbers near a pivot (one of them), so that a large mean does not cost the variance digits.
struct Moments {
    Vec pivot, total, squares;
    explicit Moments(Vec first) : pivot(first), total(Vec{}), squares(Vec{}) {}
    void add(Vec x) {
        const Vec d = x - pivot;
        total += d;
        squares += d * d;
    }
    // Adds the sums of `count` numbers, without the pivot, to doubles (2, LANES).
    void finish(int64_t count, double* sums) const {
        for (int64_t i = 0; i < LANES; ++i) {
            const double p = pivot[i], t = total[i];
            sums[i] += t + count * p;
            sums[LANES + i] += squares[i] + 2 * p * t + count * p * p;
        }
    }
};

// The sums (2, LANES) of some channels to (2, channels).
inline void store_sums(const double* sums, int64_t lanes, double* to, int64_t channels) {
    for (int64_t i = 0; i < lanes; ++i) {
        to[i] = sums[i];
        to[channels + i] = sums[LANES + i];
    }
}

constexpr int64_t PIXELS_SUMMED = 64;  // in float, before they are added in double

struct BatchNormScratch {
    float *pivots, *totals, *squares;  // (channels), rounded up to whole vectors
    double* sums;                      // (vectors, 2, LANES)
    int64_t size;

    BatchNormScratch(const BatchNormCall& p, float* base) {
        Arena arena{base};
        const int64_t wide = round_up(p.channels, LANES);
        pivots = arena.take(wide);
        totals = arena.take(wide);
        squares = arena.take(wide);
        sums = reinterpret_cast<double*>(arena.take(4 * wide));
        size = arena.used;
    }
};

template <bool GELU>
inline void block_moments(const BatchNormCall& p, const BatchNormScratch& s, int64_t first, int64_t last) {
    const int64_t wide = round_up(p.channels, LANES);
    for (int64_t i = first; i < last; ++i) {
        const float* from = p.x + i * p.channels;
        for (int64_t c = 0; c < wide; c += LANES) {
            Vec x = load_channels(from, c, p.channels);
            if (GELU) x = gelu(x);
            Moments m(i == first ? x : load(s.pivots + c));
            if (i == first) {
                store(s.pivots + c, x);
            } else {
                m.total = load(s.totals + c);
                m.squares = load(s.squares + c);
            }
            m.add(x);
            store(s.totals + c, m.total);
            store(s.squares + c, m.squares);
        }
    }
    for (int64_t c = 0; c < wide; c += LANES) {
        Moments m(load(s.pivots + c));
        m.total = load(s.totals + c);
        m.squares = load(s.squares + c);
        m.finish(last - first, s.sums + 2 * c);
    }
}

int64_t batch_norm_workspace(const BatchNormCall& p) { return p.threads * BatchNormScratch(p, nullptr).size; }

// Writes this thread's sums (2, channels).
void batch_norm_moments(const BatchNormCall& p, int64_t thread) {
    const BatchNormScratch s(p, p.workspace + thread * BatchNormScratch(p, nullptr).size);
    zero(reinterpret_cast<float*>(s.sums), 4 * round_up(p.channels, LANES));
    const int64_t begin = thread * p.pixels / p.threads, end = (thread + 1) * p.pixels / p.threads;
    for (int64_t i = begin; i < end; i += PIXELS_SUMMED) {
        const int64_t last = i + PIXELS_SUMMED < end ? i + PIXELS_SUMMED : end;
        p.gelu ? block_moments<true>(p, s, i, last) : block_moments<false>(p, s, i, last);
    }
    for (int64_t c = 0; c < p.channels; c += LANES)
        store_sums(s.sums + 2 * c, p.channels - c < LANES ? p.channels - c : LANES,
                   p.sums + thread * 2 * p.channels + c, p.channels);
}

inline double total_of(const BatchNormCall& p, int64_t row, int64_t c) {
    double total = 0;
    for (int64_t i = 0; i < p.slots; ++i) total += p.sums[(2 * i + row) * p.channels + c];
    return total;
}

// From the sums: constants (5, channels), which are the mean, the unbiased variance, 1 / sqrt(variance + epsilon), and
// the scale and shift with which the norm is x * scale + shift.
void batch_norm_constants(const BatchNormCall& p, int64_t) {
    for (int64_t c = 0; c < p.channels; ++c) {
        const double count = double(p.pixels), mean = total_of(p, 0, c) / count;
        double variance = total_of(p, 1, c) / count - mean * mean;
        variance = variance < 0 ? 0 : variance;
        const double inverse = 1 / __builtin_sqrt(variance + p.epsilon), scale = p.gain[c] * inverse;
        p.constants[c] = float(mean);
        p.constants[p.channels + c] = float(variance * (count / (count - 1)));
        p.constants[2 * p.channels + c] = float(inverse);
        p.constants[3 * p.channels + c] = float(scale);
        p.constants[4 * p.channels + c] = float(p.bias[c] - mean * scale);
    }
}

// From the sums of the gradient g of the norm, and of g times the normalised number: the gradients of gain and bias, and
// in place of g the gradient of x, which is (g * scale + y * slope + offset) * gelu'(x) with y = gelu(x).
template <bool GELU>
inline void batch_norm_backward_work(const BatchNormCall& p, int64_t thread) {
    const BatchNormScratch s(p, p.workspace + thread * BatchNormScratch(p, nullptr).size);
    float *slopes = s.pivots, *offsets = s.totals;
    for (int64_t c = 0; c < p.channels; ++c) {
        const double bias = total_of(p, 0, c), gain = total_of(p, 1, c), scale = p.constants[3 * p.channels + c];
        const double slope = -scale * p.constants[2 * p.channels + c] * gain / double(p.pixels);
        slopes[c] = float(slope);
        offsets[c] = float(-scale * bias / double(p.pixels) - slope * p.constants[c]);
        if (thread == 0) {
            p.grad_gain[c] = float(gain);
            p.grad_bias[c] = float(bias);
        }
    }
    const float* scales = p.constants + 3 * p.channels;
    for (int64_t i = thread * p.pixels / p.threads; i < (thread + 1) * p.pixels / p.threads; ++i) {
        const float* from = p.x + i * p.channels;
        float* grad = p.grad + i * p.channels;
        for (int64_t c = 0; c < p.channels; c += LANES) {
            const Vec x = load_channels(from, c, p.channels), scale = load_channels(scales, c, p.channels);
            const Vec phi = GELU ? normal_distribution(x) : splat(1.0f);
            Vec result = load_channels(grad, c, p.channels) * scale + x * phi * load(slopes + c) + load(offsets + c);
            if (GELU) result *= gelu_derivative(x, phi);
            store_channels(result, grad, c, p.channels);
        }
    }
}

void batch_norm_backward(const BatchNormCall& p, int64_t thread) {
    p.gelu ? batch_norm_backward_work<true>(p, thread) : batch_norm_backward_work<false>(p, thread);
}
