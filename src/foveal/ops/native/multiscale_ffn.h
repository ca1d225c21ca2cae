// TransXNet's multi-scale feed-forward network for inference, with the GroupNorm before it and the residual addition
// after it, by panels of hidden channels: the hidden map, the largest of a block, exists for a few panels at a time.
//
//     h = gelu(W1 norm(x) + b1) * scale + shift,   out = x + W2 gelu(convolution(h)) + b2
//
// A panel's convolution needs no other channels, so nothing is computed twice. The second product adds up over panels.
// Small images are taken together, so that weights are read from far caches less often.

struct FfnScratch {
    Blocked tokens;  // of the images, normalised
    Blocked entered; // a panel of h
    Blocked hidden;  // what follows the convolution, of the panels that are multiplied together
    int64_t size;

    FfnScratch(const FfnCall& c, float* base) {
        Arena arena{base};
        const int64_t pixels = c.images * c.height * c.width;
        tokens.rows = entered.rows = hidden.rows = pixels;
        tokens.data = arena.take(pixels * round_up(c.channels, LANES));
        entered.data = arena.take(pixels * PANEL);
        hidden.data = arena.take(pixels * PANEL * c.together);
        size = arena.used;
    }
};

// The sum of measure(x) over `count` numbers, in double beyond some thousands of them.
template <class Measure>
inline double sum_of(const float* x, int64_t count, Measure measure) {
    constexpr int64_t BLOCK_OF = 256 * LANES;
    double total = 0;
    for (int64_t start = 0; start < count; start += BLOCK_OF) {
        const int64_t n = count - start < BLOCK_OF ? count - start : BLOCK_OF, whole = n / LANES * LANES;
        Vec sums = {};
        for (int64_t i = 0; i < whole; i += LANES) sums += measure(load(x + start + i));
        if (whole < n) {
            const Vec last = measure(load_some(x + start + whole, n - whole));
            sums += lane_index() < float(n - whole) ? last : Vec{};
        }
        total += sum(sums);
    }
    return total;
}

// Normalise image b over all its channels and pixels, to the rows from `first` on. Lanes beyond the last channel are not
// read.
inline void normalise_image(const FfnCall& c, const FfnScratch& s, int64_t b, int64_t first) {
    const int64_t pixels = c.height * c.width, numbers = pixels * c.channels, whole = c.channels / LANES;
    const float* x = c.x + b * numbers;
    const float mean = float(sum_of(x, numbers, [](Vec a) { return a; }) / double(numbers));
    const double squares = sum_of(x, numbers, [mean](Vec a) { return (a - mean) * (a - mean); });
    const float inverse = float(1.0 / __builtin_sqrt(squares / double(numbers) + c.epsilon));
    for (int64_t m = first; m < first + pixels; ++m, x += c.channels) {
        for (int64_t i = 0; i < whole; ++i) store(s.tokens.at(i, m), (load(x + i * LANES) - mean) * inverse);
        if (const int64_t rest = c.channels % LANES)
            store(s.tokens.at(whole, m), (load_some(x + whole * LANES, rest) - mean) * inverse);
    }
}

// Compute panel p of h for the first `pixels` rows.
inline void enter_panel(const FfnCall& c, const FfnScratch& s, int64_t p, int64_t pixels) {
    const float *scale = c.scale + p * PANEL, *shift = c.shift + p * PANEL;
    product(s.tokens, pixels, c.channels, c.weight1 + p * c.channels * PANEL, 0, 1,
            Biases{c.bias1 + p * PANEL}, [&](int64_t row, int64_t vector, Vec sums) {
                const Vec h = gelu(sums) * load(scale + vector * LANES) + load(shift + vector * LANES);
                store(s.entered.at(vector, row), h);
            });
}

// Convolve panel p of the image whose rows start at `first` to panel `slot` of the hidden map, and activate it.
inline void convolve_panel(const FfnCall& c, const FfnScratch& s, int64_t p, int64_t slot, int64_t first) {
    for (int64_t v = 0; v < 2; ++v) {
        const float* weights = c.taps + (2 * p + v) * c.area * LANES;
        for (int64_t y = 0; y < c.height; ++y) {
            float* line = s.hidden.at(2 * slot + v, first + y * c.width);
            convolve_map_row(s.entered.at(v, first), c.height, c.width, c.kernels[p], y, weights,
                             c.tap_biases + p * PANEL + v * LANES, line);
            for (int64_t x = 0; x < c.width; ++x, line += LANES) store(line, gelu(load(line)));
        }
    }
}

// Add the product of `count` hidden panels from p on to the sums `out` (pixels, C), or start them: at x (pixels, C) and
// the bias, or at 0 without x.
inline void add_product(const FfnCall& c, const FfnScratch& s, float* out, const float* x, bool starts, int64_t pixels,
                        int64_t p, int64_t count) {
    const auto start = [&](int64_t row, int64_t vector) -> Vec {
        const int64_t channel = vector * LANES, left = c.channels - channel, at = row * c.channels + channel;
        if (left <= 0 || (starts && !x)) return Vec{};
        const float* from = (starts ? x : out) + at;
        const Vec before = left >= LANES ? load(from) : load_some(from, left);
        return starts ? before + load(c.bias2 + channel) : before;
    };
    const auto finish = [&](int64_t row, int64_t vector, Vec sums) {
        const int64_t channel = vector * LANES, left = c.channels - channel, at = row * c.channels + channel;
        if (left >= LANES)
            store(out + at, sums);
        else if (left > 0)
            store_some(out + at, sums, left);
    };
    const int64_t blocks = (pixels + c.rows - 1) / c.rows;
    for (int64_t i = 0; i < blocks; ++i) {
        const int64_t first = i * pixels / blocks, n = (i + 1) * pixels / blocks - first;
        product(s.hidden.from(first), n, count * PANEL, c.weight2 + p * PANEL * PANEL, c.panels * PANEL * PANEL,
                round_up(c.channels, PANEL) / PANEL,
                [&](int64_t row, int64_t vector) { return start(first + row, vector); },
                [&](int64_t row, int64_t vector, Vec sums) { finish(first + row, vector, sums); });
    }
}

// The share of one part of the panels in images first ... last - 1.
inline void ffn_part(const FfnCall& c, const FfnScratch& s, int64_t first, int64_t last, int64_t part) {
    const int64_t image = c.height * c.width, pixels = (last - first) * image;
    const int64_t begin = part * c.panels / c.parts, end = (part + 1) * c.panels / c.parts;
    float* out = c.out + (part * c.batch + first) * image * c.channels;
    const float* x = part == 0 ? c.x + first * image * c.channels : nullptr;
    for (int64_t b = first; b < last; ++b) normalise_image(c, s, b, (b - first) * image);
    for (int64_t p = begin; p < end; p += c.together) {
        const int64_t count = end - p < c.together ? end - p : c.together;
        for (int64_t i = 0; i < count; ++i) {
            enter_panel(c, s, p + i, pixels);
            for (int64_t row = 0; row < pixels; row += image) convolve_panel(c, s, p + i, i, row);
        }
        add_product(c, s, out, x, p == begin, pixels, p, count);
    }
}

int64_t multiscale_ffn_workspace(const FfnCall& c) { return c.threads * FfnScratch(c, nullptr).size; }

void multiscale_ffn(const FfnCall& c, int64_t thread) {
    const int64_t groups = (c.batch + c.images - 1) / c.images, items = groups * c.parts;
    const FfnScratch s(c, c.workspace + thread * FfnScratch(c, nullptr).size);
    for (int64_t i = thread * items / c.threads; i < (thread + 1) * items / c.threads; ++i) {
        const int64_t group = i / c.parts;
        ffn_part(c, s, group * c.batch / groups, (group + 1) * c.batch / groups, i % c.parts);
    }
}
