// Convolutional GLU for inference, with the LayerNorm before it and the residual addition after it, by bands of rows:
// the hidden map, the largest of a block, exists for a few rows at a time and never leaves the cache.
//
//     [g, v] = W1 norm(x) + b1,   out = x + W2 (gelu(convolution(g)) * v) + b2

// Row y of a band that starts at row `first` is number y - first - 1 of a ring whose size is a multiple of c.rows, so
// that rows computed together are neighbours in it.
struct GluScratch {
    Blocked tokens;  // normalised: row o and the c.rows rows after it
    Blocked gate;    // the ring: rows o - 1 ... o + c.rows are in use
    Blocked value;   // rows o ... o + c.rows - 1; then the product of both
    float* line;     // (width, LANES)
    int64_t ring, size;

    GluScratch(const GluCall& c, float* base) {
        Arena arena{base};
        const int64_t hidden = c.panels * PANEL;
        ring = round_up(c.rows + 2, c.rows);
        tokens.rows = (c.rows + 1) * c.width;
        gate.rows = ring * c.width;
        value.rows = c.rows * c.width;
        tokens.data = arena.take(tokens.rows * round_up(c.channels, LANES));
        gate.data = arena.take(gate.rows * hidden);
        value.data = arena.take(value.rows * hidden);
        line = arena.take(c.width * LANES);
        size = arena.used;
    }
    // The place of row y in the ring, in pixels.
    int64_t place(const GluCall& c, int64_t first, int64_t y) const { return (y - first - 1 + ring) % ring * c.width; }
};

// Normalise a token (C) over its channels to row m of `to`.
inline void normalise_token(const GluCall& c, const float* x, const Blocked& to, int64_t m) {
    const int64_t whole = c.channels / LANES, rest = c.channels % LANES;
    Vec sums = rest ? load_some(x + whole * LANES, rest) : Vec{};
    for (int64_t i = 0; i < whole; ++i) sums += load(x + i * LANES);
    const float mean = sum(sums) / float(c.channels);
    const auto inside = lane_index() < float(rest);
    const Vec last = rest ? (inside ? load_some(x + whole * LANES, rest) - mean : Vec{}) : Vec{};
    Vec squares = last * last;
    for (int64_t i = 0; i < whole; ++i) {
        const Vec difference = load(x + i * LANES) - mean;
        squares += difference * difference;
    }
    const float inverse = 1.0f / __builtin_sqrtf(sum(squares) / float(c.channels) + float(c.epsilon));
    for (int64_t i = 0; i < whole; ++i) store(to.at(i, m), (load(x + i * LANES) - mean) * inverse);
    if (rest) store(to.at(whole, m), last * inverse);
}

// Normalise rows y ... y + count - 1 of image b to the token rows from number `slot` on.
inline void token_rows(const GluCall& c, const GluScratch& s, int64_t b, int64_t y, int64_t count, int64_t slot) {
    const float* x = c.x + (b * c.height + y) * c.width * c.channels;
    for (int64_t i = 0; i < count * c.width; ++i) normalise_token(c, x + i * c.channels, s.tokens, slot * c.width + i);
}

// Compute the gate of token rows `slot` ... slot + count - 1 to `place` in the ring.
inline void gate_rows(const GluCall& c, const GluScratch& s, int64_t slot, int64_t count, int64_t place) {
    product(s.tokens.from(slot * c.width), count * c.width, c.channels, c.weight1, c.channels * PANEL, c.panels,
            Biases{c.bias1}, [&](int64_t row, int64_t vector, Vec sums) { store(s.gate.at(vector, place + row), sums); });
}

// Compute the values of the first `count` token rows.
inline void value_rows(const GluCall& c, const GluScratch& s, int64_t count) {
    const float *weight = c.weight1 + c.panels * PANEL * c.channels, *bias = c.bias1 + c.panels * PANEL;
    product(s.tokens, count * c.width, c.channels, weight, c.channels * PANEL, c.panels, Biases{bias},
            [&](int64_t row, int64_t vector, Vec sums) { store(s.value.at(vector, row), sums); });
}

// Multiply `count` rows of values from row o on by the activated convolution of the gate.
inline void apply_gate(const GluCall& c, const GluScratch& s, int64_t first, int64_t o, int64_t count) {
    const ConvolveRow convolve = row_kernels(3, c.width).convolve;
    for (int64_t vector = 0; vector < 2 * c.panels; ++vector)
        for (int64_t i = 0; i < count; ++i) {
            const float* rows[3];
            for (int64_t j = 0; j < 3; ++j) {
                const int64_t y = o + i + j - 1;
                rows[j] = y < 0 || y >= c.height ? nullptr : s.gate.at(vector, s.place(c, first, y));
            }
            convolve(rows, 3, c.width, c.kernels + vector * 9 * LANES, c.kernel_biases + vector * LANES, s.line);
            float* to = s.value.at(vector, i * c.width);
            for (int64_t x = 0; x < c.width; ++x, to += LANES) store(to, load(to) * gelu(load(s.line + x * LANES)));
        }
}

// Write `count` rows of the output from row o on: the second product and the residual.
inline void output_rows(const GluCall& c, const GluScratch& s, int64_t b, int64_t o, int64_t count) {
    const int64_t start = (b * c.height + o) * c.width * c.channels;
    product(s.value, count * c.width, c.panels * PANEL, c.weight2, c.panels * PANEL * PANEL,
            round_up(c.channels, PANEL) / PANEL, Biases{c.bias2}, [&](int64_t row, int64_t vector, Vec sums) {
                const int64_t channel = vector * LANES, left = c.channels - channel;
                const int64_t at = start + row * c.channels + channel;
                if (left >= LANES)
                    store(c.out + at, sums + load(c.x + at));
                else if (left > 0)
                    store_some(c.out + at, sums + load_some(c.x + at, left), left);
            });
}

inline void glu_band(const GluCall& c, const GluScratch& s, int64_t b, int64_t first, int64_t last) {
    for (int64_t y = first > 0 ? first - 1 : 0; y <= first; ++y) {
        token_rows(c, s, b, y, 1, 0);
        gate_rows(c, s, 0, 1, s.place(c, first, y));
    }
    for (int64_t o = first; o < last; o += c.rows) {
        const int64_t count = last - o < c.rows ? last - o : c.rows;
        const int64_t below = c.height - o - 1 < count ? c.height - o - 1 : count;  // rows after o that there are
        token_rows(c, s, b, o + 1, below, 1);
        gate_rows(c, s, 1, below, s.place(c, first, o + 1));
        value_rows(c, s, count);
        apply_gate(c, s, first, o, count);
        output_rows(c, s, b, o, count);
        for (int64_t i = 0; i < round_up(c.channels, LANES) / LANES; ++i)
            __builtin_memcpy(s.tokens.at(i, 0), s.tokens.at(i, count * c.width), c.width * LANES * sizeof(float));
    }
}

int64_t convolutional_glu_workspace(const GluCall& c) { return c.threads * GluScratch(c, nullptr).size; }

void convolutional_glu(const GluCall& c, int64_t thread) {
    const int64_t size = GluScratch(c, nullptr).size, items = c.batch * c.bands;
    const GluScratch s(c, c.workspace + thread * size);
    for (int64_t i = thread * items / c.threads; i < (thread + 1) * items / c.threads; ++i) {
        const int64_t band = i % c.bands;
        glu_band(c, s, i / c.bands, band * c.height / c.bands, (band + 1) * c.height / c.bands);
    }
}
