// Depthwise convolution: what forward and backward share.
//
// Channels are in the lanes of a vector. A piece of work is a chunk of neighbouring vectors of one image: its rows are
// copied into ring buffers of rows (vectors, width, LANES), small enough for the cache, so that kernels read contiguous
// floats whatever dtype and strides the map has. The identity is 1 added to the kernel's centre.

constexpr int64_t LARGEST_KERNEL = 63;
constexpr int64_t CACHE = 512 * 1024;  // bytes of rows that a chunk may have
constexpr int64_t WIDEST_CHUNK = 64;   // vectors

// Neighbouring channels of one group. If the channels do not fill the last vector, it starts earlier and overlaps the
// one before; only groups narrower than a vector need scalar accesses.
struct Chunk {
    int64_t kernel, area, first, count;  // channels first ... first + count - 1 of the map
    int64_t weights;                     // position of the first channel's kernel
    int64_t vectors() const { return (count + LANES - 1) / LANES; }
    int64_t start(int64_t vector) const {
        const int64_t first_lane = vector * LANES;
        return first_lane + LANES <= count || count < LANES ? first_lane : count - LANES;
    }
};

// The division of the channels into chunks.
struct Chunks {
    const DepthwiseCall& call;
    int64_t rows;   // kept in ring buffers per row of the kernel
    int64_t limit;  // vectors per chunk that leave pieces of work for every thread

    Chunks(const DepthwiseCall& c, int64_t rows_) : call(c), rows(rows_) {
        int64_t vectors = 0;
        for (int64_t g = 0; g < c.groups; ++g) vectors += whole(c.channels[g]);
        limit = vectors * c.batch * c.bands / (4 * c.threads);
        if (limit > WIDEST_CHUNK) limit = WIDEST_CHUNK;
    }
    static int64_t whole(int64_t channels) { return channels < LANES ? 1 : channels / LANES; }
    int64_t parts(int64_t group) const {
        const int64_t bytes = (rows * call.kernels[group] + 1) * call.width * LANES * 4;
        int64_t most = CACHE / bytes < limit ? CACHE / bytes : limit;
        if (most < 1) most = 1;
        return (whole(call.channels[group]) + most - 1) / most;
    }
    int64_t count() const {
        int64_t total = 0;
        for (int64_t g = 0; g < call.groups; ++g) total += parts(g);
        return total;
    }
    Chunk at(int64_t index) const {
        int64_t group = 0, first = 0, weights = 0;
        for (; index >= parts(group); ++group) {
            index -= parts(group);
            first += call.channels[group];
            weights += call.channels[group] * call.kernels[group] * call.kernels[group];
        }
        const int64_t all = whole(call.channels[group]), n = parts(group);
        const int64_t area = call.kernels[group] * call.kernels[group];
        const int64_t begin = index * all / n * LANES;
        const int64_t end = index + 1 == n ? call.channels[group] : (index + 1) * all / n * LANES;
        return {call.kernels[group], area, first + begin, end - begin, weights + begin * area};
    }
    // The largest chunk's vectors, and the largest product of vectors and a measure of its kernel.
    template <class Measure>
    int64_t largest_of(Measure measure) const {
        int64_t most = 0;
        for (int64_t g = 0; g < call.groups; ++g) {
            const int64_t n = parts(g), vectors = (whole(call.channels[g]) + n - 1) / n + 1;
            const int64_t size = vectors * measure(call.kernels[g]);
            if (size > most) most = size;
        }
        return most;
    }
};

// Piece of work number `index`: images vary faster than chunks, so that a chunk's kernels are arranged once.
struct Piece {
    int64_t chunk, b, band;
    Piece(const DepthwiseCall& c, int64_t index)
        : chunk(index / c.bands / c.batch), b(index / c.bands % c.batch), band(index % c.bands) {}
};

// ---------------------------------------------------------------------------------------------------------------------
// Vectors of a chunk's pixel: LANES channels, or the few that a narrow group has.

struct AllLanes {};
struct SomeLanes {
    int64_t count;
};

template <class T>
inline Vec load_lanes(const T* from, AllLanes) { return load(from); }
template <class T>
inline Vec load_lanes(const T* from, SomeLanes lanes) { return load_some(from, lanes.count); }
template <class T>
inline void store_lanes(T* to, Vec x, AllLanes) { store(to, x); }
template <class T>
inline void store_lanes(T* to, Vec x, SomeLanes lanes) { store_some(to, x, lanes.count); }

// A vector of a row: its first channel, its column, and its place in rows (vectors, width, LANES).
template <class Lanes>
struct Place {
    Lanes lanes;
    int64_t channel, x, offset;
};

template <class Lanes, class Body>
inline void each_place(const Chunk& k, int64_t width, Lanes lanes, Body body) {
    const int64_t vectors = k.vectors();
    for (int64_t x = 0; x < width; ++x)
        for (int64_t i = 0; i < vectors; ++i) body(Place<Lanes>{lanes, k.start(i), x, (i * width + x) * LANES});
}

// Calls body(place) for every vector of a row, in the order in which a map has them in memory.
template <class Body>
inline void each_vector(const Chunk& k, int64_t width, Body body) {
    if (k.count < LANES)
        each_place(k, width, SomeLanes{k.count}, body);
    else
        each_place(k, width, AllLanes{}, body);
}

// A row of a map's chunk. Pixels are too far apart for the hardware prefetcher, so they are prefetched here.
constexpr int64_t PIXELS_AHEAD = 8;

template <class T>
struct PixelRow {
    T* data;
    int64_t column;

    PixelRow(const Map& map, int64_t b, int64_t y, const Chunk& k)
        : data(map.data ? static_cast<T*>(map.data) + b * map.batch + y * map.row + k.first : nullptr),
          column(map.column) {}
    explicit operator bool() const { return data; }
    template <class Lanes>
    Vec read(const Place<Lanes>& p) const {
        const T* from = data + p.x * column + p.channel;
        __builtin_prefetch(from + PIXELS_AHEAD * column);
        return load_lanes(from, p.lanes);
    }
    template <class Lanes>
    void write(const Place<Lanes>& p, Vec x) const {
        T* to = data + p.x * column + p.channel;
        __builtin_prefetch(to + PIXELS_AHEAD * column, 1);
        store_lanes(to, x, p.lanes);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// A chunk's kernels, (vectors, area, LANES), and biases, (vectors, LANES).

inline void arrange_weights(const DepthwiseCall& c, const Chunk& k, int64_t b, float* weights, float* biases) {
    const int64_t lanes = k.count < LANES ? k.count : LANES;
    for (int64_t i = 0; i < k.vectors(); ++i) {
        const float* from = c.weight + b * c.weight_batch + k.weights + k.start(i) * k.area;
        float* to = weights + i * k.area * LANES;
        load_turned(from, k.area, lanes, k.area, to, LANES);
        float* centre = to + k.area / 2 * LANES;
        if (c.identity) store(centre, load(centre) + 1.0f);
        store(biases + i * LANES, load_some(c.bias + b * c.bias_batch + k.first + k.start(i), lanes));
    }
}

// Rows y - radius ... y + radius of a ring of `kernel` rows, for vector number `vector`; null outside the map.
struct Reach {
    const float* rows[LARGEST_KERNEL];
    Reach(const float* ring, const DepthwiseCall& c, const Chunk& k, int64_t y, int64_t vector) {
        for (int64_t i = 0; i < k.kernel; ++i) {
            const int64_t row = y + i - k.kernel / 2;
            const bool inside = row >= 0 && row < c.height;
            rows[i] = inside ? ring + ((row % k.kernel) * k.vectors() + vector) * c.width * LANES : nullptr;
        }
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Convolution of one row of one vector of channels: the inner loops.
//
// PIXELS neighbouring outputs are summed at once. Every loaded pixel is multiplied by the numbers of one kernel row,
// which stay in registers, so a load feeds up to K multiply-adds. Pixels outside the map are skipped, not multiplied.

#if defined(__clang__)
#define FOVEAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FOVEAL_UNROLL _Pragma("GCC unroll 64")
#endif

// out (width, LANES) = bias + convolution; rows[i] is the row for kernel row i, null outside the map.
typedef void (*ConvolveRow)(const float* const* rows, int64_t kernel, int64_t width, const float* weights,
                            const float* bias, float* out);
// Its backward pass for the row x: out (width, LANES) = gradient of x, and sums (K * K, LANES) += gradient of the
// weights. rows[i] is the row of output gradients that x contributes to through kernel row K - 1 - i.
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

// Kernels of any size, one pixel at a time.

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

// The loops for a kernel size, with the block size that leaves the least of the last block empty.
inline RowKernels row_kernels(int64_t kernel, int64_t width) {
    const int64_t by4 = round_up(width, 4), by7 = round_up(width, 7), by8 = round_up(width, 8);
    if (by8 <= by7 && by8 <= by4) return row_kernels_of<8>(kernel);
    return by7 <= by4 ? row_kernels_of<7>(kernel) : row_kernels_of<4>(kernel);
}

// Row y of the convolution of one vector of channels of a whole map (height, width, LANES).
inline void convolve_map_row(const float* map, int64_t height, int64_t width, int64_t kernel, int64_t y,
                             const float* weights, const float* bias, float* out) {
    const float* rows[LARGEST_KERNEL];
    for (int64_t i = 0; i < kernel; ++i) {
        const int64_t row = y + i - kernel / 2;
        rows[i] = row < 0 || row >= height ? nullptr : map + row * width * LANES;
    }
    row_kernels(kernel, width).convolve(rows, kernel, width, weights, bias, out);
}
