// Depthwise convolution: what forward and backward share.
//
// Channels stand in the lanes of a vector. A piece of work is a chunk of neighbouring vectors of one image: its rows
// are copied into rings of rows (vectors, width, LANES), small enough for the cache, so that kernels see plain floats
// side by side whatever dtype and strides the map has. The identity is 1 added to the kernel's centre.

constexpr int64_t LARGEST_KERNEL = 63;
constexpr int64_t CACHE = 512 * 1024;  // bytes of rows that a chunk may have
constexpr int64_t WIDEST_CHUNK = 64;   // vectors

// Neighbouring channels of one group. Where the channels do not fill the last vector it begins earlier, so that it
// shares channels with the one before; only groups narrower than a vector need single numbers.
struct Chunk {
    int64_t kernel, area, first, count;  // channels first ... first + count - 1 of the map
    int64_t weights;                     // where the first channel's kernel stands
    int64_t vectors() const { return (count + LANES - 1) / LANES; }
    int64_t start(int64_t vector) const {
        const int64_t first_lane = vector * LANES;
        return first_lane + LANES <= count || count < LANES ? first_lane : count - LANES;
    }
};

// How the channels are cut into chunks.
struct Chunks {
    const DepthwiseCall& call;
    int64_t rows;   // that a kernel of one pixel keeps in rings, and a larger one for each of its rows
    int64_t limit;  // vectors a chunk may have for every thread to get pieces of work

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

// Piece of work number `index`: images inside chunks, so that a chunk's kernels are arranged once.
struct Piece {
    int64_t chunk, b, band;
    Piece(const DepthwiseCall& c, int64_t index)
        : chunk(index / c.bands / c.batch), b(index / c.bands % c.batch), band(index % c.bands) {}
};

// ---------------------------------------------------------------------------------------------------------------------
// Vectors of a chunk's pixel: of LANES channels, or of the few that a narrow group has.

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

// A row of a map's chunk. Pixels stand too far apart for the processor to see what comes next, so it is told.
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

// Rows y - radius ... y + radius of a ring of `kernel` rows, as vector number `vector` sees them; null outside the map.
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
