// Depthwise convolution, forward: one pass over the map, which also applies the activation and the gate.

struct DepthwiseForwardScratch {
    float *ring, *line;        // rows of x; the row of results
    float *weights, *biases;   // of the chunk
    double* moments;           // (vectors, 2, LANES), of the chunk
    int64_t size;

    DepthwiseForwardScratch(const Chunks& chunks, float* base) {
        Arena arena{base};
        const int64_t row = chunks.call.width * LANES;
        ring = arena.take(chunks.largest_of([](int64_t kernel) { return kernel; }) * row);
        line = arena.take(chunks.largest_of([](int64_t) { return 1; }) * row);
        weights = arena.take(chunks.largest_of([](int64_t kernel) { return kernel * kernel; }) * LANES);
        biases = arena.take(chunks.largest_of([](int64_t) { return 1; }) * LANES);
        moments = reinterpret_cast<double*>(arena.take(chunks.largest_of([](int64_t) { return 1; }) * 4 * LANES));
        size = arena.used;
    }
};

// Copy row y of the chunk to its slot in a ring buffer, if the map has such a row.
template <class T>
inline void load_ring(const DepthwiseCall& c, const Map& map, const Chunk& k, int64_t b, int64_t y, float* ring) {
    if (y < 0 || y >= c.height) return;
    float* row = ring + (y % k.kernel) * k.vectors() * c.width * LANES;
    const PixelRow<T> from(map, b, y, k);
    each_vector(k, c.width, [=](auto place) { store(row + place.offset, from.read(place)); });
}

// The same for x, after the activation and affine map that precede the convolution, if there are any.
template <class T>
inline void load_input(const DepthwiseCall& c, const Chunk& k, int64_t b, int64_t y, float* ring) {
    if (!c.scale || y < 0 || y >= c.height) return load_ring<T>(c, c.x, k, b, y, ring);
    float* row = ring + (y % k.kernel) * k.vectors() * c.width * LANES;
    const PixelRow<T> from(c.x, b, y, k);
    const float *scale = c.scale + k.first, *shift = c.shift + k.first;
    each_vector(k, c.width, [=](auto place) {
        const Vec a = load_lanes(scale + place.channel, place.lanes), z = load_lanes(shift + place.channel, place.lanes);
        store(row + place.offset, gelu(from.read(place)) * a + z);
    });
}

inline void convolve(const DepthwiseCall& c, const Chunk& k, const float* ring, int64_t y, const float* weights,
                     const float* biases, float* line) {
    const RowKernels kernels = row_kernels(k.kernel, c.width);
    for (int64_t i = 0; i < k.vectors(); ++i)
        kernels.convolve(Reach(ring, c, k, y, i).rows, k.kernel, c.width, weights + i * k.area * LANES,
                         biases + i * LANES, line + i * c.width * LANES);
}

// Adds a row of results to the chunk's moments.
inline void add_moments(const DepthwiseCall& c, const Chunk& k, const float* line, double* moments) {
    for (int64_t i = 0; i < k.vectors(); ++i) {
        const float* row = line + i * c.width * LANES;
        Moments m(load(row));
        for (int64_t x = 0; x < c.width; ++x) m.add(load(row + x * LANES));
        m.finish(c.width, moments + i * 2 * LANES);
    }
}

// Writes a chunk's sums, (vectors, 2, LANES), to this thread's (2, C), and resets them.
inline void store_double_sums(const DepthwiseCall& c, const Chunk& k, double* sums, double* to, int64_t thread) {
    int64_t channels = 0;
    for (int64_t i = 0; i < c.groups; ++i) channels += c.channels[i];
    to += thread * 2 * channels + k.first;
    for (int64_t i = 0; i < k.vectors(); ++i)
        store_sums(sums + i * 2 * LANES, k.count < LANES ? k.count : LANES, to + k.start(i), channels);
    zero(reinterpret_cast<float*>(sums), k.vectors() * 4 * LANES);
}

template <class T>
inline void finish_row(const DepthwiseCall& c, const Chunk& k, int64_t b, int64_t y, float* line, double* moments) {
    const PixelRow<T> value(c.value, b, y, k), out(c.out, b, y, k);
    const bool activate = c.gelu, kept = c.moments;
    each_vector(k, c.width, [=](auto place) {
        Vec result = load(line + place.offset);
        if (activate) result = gelu(result);
        if (value) result *= value.read(place);
        out.write(place, result);
        if (kept) store(line + place.offset, result);
    });
    if (kept) add_moments(c, k, line, moments);
}

template <class T>
void depthwise_forward_work(const DepthwiseCall& c, int64_t thread) {
    const Chunks chunks(c, 1);
    const int64_t size = DepthwiseForwardScratch(chunks, nullptr).size, pieces = chunks.count() * c.batch * c.bands;
    const DepthwiseForwardScratch s(chunks, c.workspace + thread * size);
    zero(reinterpret_cast<float*>(s.moments), chunks.largest_of([](int64_t) { return 1; }) * 4 * LANES);
    int64_t arranged = -1;  // the chunk whose weights are in the scratch memory
    for (int64_t i = thread; i < pieces; i += c.threads) {
        const Piece piece(c, i);
        const Chunk k = chunks.at(piece.chunk);
        if (arranged != piece.chunk || c.weight_batch) arrange_weights(c, k, piece.b, s.weights, s.biases);
        arranged = piece.chunk;
        const int64_t first = piece.band * c.height / c.bands, last = (piece.band + 1) * c.height / c.bands;
        const int64_t radius = k.kernel / 2;
        for (int64_t y = first - radius; y < first + radius; ++y) load_input<T>(c, k, piece.b, y, s.ring);
        for (int64_t y = first; y < last; ++y) {
            load_input<T>(c, k, piece.b, y + radius, s.ring);
            convolve(c, k, s.ring, y, s.weights, s.biases, s.line);
            finish_row<T>(c, k, piece.b, y, s.line, s.moments);
        }
        const bool ends = i + c.threads >= pieces || Piece(c, i + c.threads).chunk != piece.chunk;
        if (c.moments && ends) store_double_sums(c, k, s.moments, c.moments, thread);
    }
}

int64_t depthwise_forward_workspace(const DepthwiseCall& c) {
    return c.threads * DepthwiseForwardScratch(Chunks(c, 1), nullptr).size;
}

void depthwise_forward(const DepthwiseCall& c, int64_t thread) {
    if (c.half)
        depthwise_forward_work<bfloat16>(c, thread);
    else
        depthwise_forward_work<float>(c, thread);
}
