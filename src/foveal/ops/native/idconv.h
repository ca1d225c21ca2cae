// Input-dependent depthwise convolution for inference (IDConv of TransXNet): the kernels of every sample are mixed from
// learned ones by two small layers of the pooled map, and the map is convolved with them, by panels of channels.
//
// Positions are those of a kernel, K * K cells of the pooled map, and one more for the bias, pooled from all pixels.

struct IdconvScratch {
    Blocked pooled, squeezed;  // (positions, channels), (positions, squeezed)
    float* scores;             // (groups, 2, positions, LANES); then the first group has the mixed kernels
    float* map;                // (height, width, LANES)
    float* line;               // (width, LANES)
    int64_t size;

    IdconvScratch(const IdconvCall& c, float* base) {
        Arena arena{base};
        const int64_t positions = c.kernel * c.kernel + 1;
        pooled.rows = squeezed.rows = positions;
        pooled.data = arena.take(positions * round_up(c.channels, LANES));
        squeezed.data = arena.take(positions * round_up(c.squeezed, PANEL));
        scores = arena.take(c.groups * positions * PANEL);
        map = arena.take(c.height * c.width * LANES);
        line = arena.take(c.width * LANES);
        size = arena.used;
    }
};

inline const float* pixel(const Map& map, int64_t b, int64_t y, int64_t x) {
    return static_cast<const float*>(map.data) + b * map.batch + y * map.row + x * map.column;
}

// The average over a rectangle of pixels, to a position of the pooled map.
inline void pool_cell(const IdconvCall& c, const IdconvScratch& s, int64_t b, int64_t top, int64_t bottom, int64_t left,
                      int64_t right, int64_t position) {
    const float share = 1.0f / float((bottom - top) * (right - left));
    for (int64_t channel = 0; channel < c.channels; channel += LANES) {
        const int64_t rest = c.channels - channel;
        Vec total = {};
        for (int64_t y = top; y < bottom; ++y) {
            const float* from = pixel(c.x, b, y, left) + channel;
            Vec row = {};  // summed apart, so that large maps lose no digits
            for (int64_t x = left; x < right; ++x, from += c.x.column)
                row += rest >= LANES ? load(from) : load_some(from, rest);
            total += row;
        }
        store(s.pooled.at(channel / LANES, position), total * share);
    }
}

// Pool image b to all positions, with the cells of PyTorch's adaptive pooling, and squeeze its channels.
inline void squeeze_image(const IdconvCall& c, const IdconvScratch& s, int64_t b) {
    const int64_t k = c.kernel;
    for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < k; ++j)
            pool_cell(c, s, b, i * c.height / k, ((i + 1) * c.height + k - 1) / k, j * c.width / k,
                      ((j + 1) * c.width + k - 1) / k, i * k + j);
    pool_cell(c, s, b, 0, c.height, 0, c.width, k * k);
    product(s.pooled, k * k + 1, c.channels, c.weight1, c.channels * PANEL, round_up(c.squeezed, PANEL) / PANEL,
            Biases{c.bias1}, [&](int64_t row, int64_t v, Vec sums) { store(s.squeezed.at(v, row), gelu(sums)); });
}

// Mix the kernels of panel p: learned kernels, weighted by a softmax over groups.
inline void mix_kernels(const IdconvCall& c, const IdconvScratch& s, int64_t p) {
    const int64_t positions = c.kernel * c.kernel + 1, group = positions * PANEL;
    product(s.squeezed, positions, c.squeezed, c.weight2 + p * c.groups * c.squeezed * PANEL, c.squeezed * PANEL,
            c.groups, Biases{c.bias2 + p * c.groups * PANEL},
            [&](int64_t row, int64_t v, Vec sums) { store(s.scores + (v * positions + row) * LANES, sums); });
    const float* learned = c.learned + p * c.groups * group;
    for (int64_t i = 0; i < group; i += LANES) {
        Vec most = load(s.scores + i), weights = {}, sums = {};
        for (int64_t g = 1; g < c.groups; ++g) most = largest(most, load(s.scores + g * group + i));
        for (int64_t g = 0; g < c.groups; ++g) {
            const Vec weight = exponential(load(s.scores + g * group + i) - most);
            weights += weight;
            sums += weight * load(learned + g * group + i);
        }
        store(s.scores + i, sums / weights);
    }
}

// Convolve one vector of channels of image b, or the `count` channels that there are of it.
inline void convolve_vector(const IdconvCall& c, const IdconvScratch& s, int64_t b, int64_t channel, int64_t count,
                            const float* taps) {
    for (int64_t y = 0; y < c.height; ++y) {
        const float* from = pixel(c.x, b, y, 0) + channel;
        float* to = s.map + y * c.width * LANES;
        for (int64_t x = 0; x < c.width; ++x, from += c.x.column, to += LANES) {
            __builtin_prefetch(from + PIXELS_AHEAD * c.x.column);
            store(to, count >= LANES ? load(from) : load_some(from, count));
        }
    }
    for (int64_t y = 0; y < c.height; ++y) {
        const float* bias = taps + c.kernel * c.kernel * LANES;
        convolve_map_row(s.map, c.height, c.width, c.kernel, y, taps, bias, s.line);
        float* to = c.out + ((b * c.height + y) * c.width) * c.channels + channel;
        for (int64_t x = 0; x < c.width; ++x, to += c.channels) {
            const Vec result = load(s.line + x * LANES);
            if (count >= LANES)
                store(to, result);
            else
                store_some(to, result, count);
        }
    }
}

inline void idconv_part(const IdconvCall& c, const IdconvScratch& s, int64_t b, int64_t part) {
    const int64_t panels = round_up(c.channels, PANEL) / PANEL, positions = c.kernel * c.kernel + 1;
    squeeze_image(c, s, b);
    for (int64_t p = part * panels / c.parts; p < (part + 1) * panels / c.parts; ++p) {
        mix_kernels(c, s, p);
        for (int64_t v = 0; v < 2; ++v) {
            const int64_t channel = p * PANEL + v * LANES;
            if (channel < c.channels)
                convolve_vector(c, s, b, channel, c.channels - channel, s.scores + v * positions * LANES);
        }
    }
}

int64_t idconv_workspace(const IdconvCall& c) { return c.threads * IdconvScratch(c, nullptr).size; }

void idconv(const IdconvCall& c, int64_t thread) {
    const int64_t size = IdconvScratch(c, nullptr).size, items = c.batch * c.parts;
    const IdconvScratch s(c, c.workspace + thread * size);
    for (int64_t i = thread * items / c.threads; i < (thread + 1) * items / c.threads; ++i)
        idconv_part(c, s, i / c.parts, i % c.parts);
}
