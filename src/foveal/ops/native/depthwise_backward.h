// Depthwise convolution, backward: one pass. Each row of gradients of y is computed (with the convolution recomputed if
// an activation needs y) and kept in a ring buffer. Once all rows that a row of x contributes to are there, the gradient
// of that row is written and its share is added to the gradient of the weights. With a norm before the convolution, the
// gradient is that of the norm, and its two sums over the map are made on the way.

struct DepthwiseBackwardScratch {
    float *ring, *grads, *line;            // rows of x and of y's gradient; the row being computed
    float* normed;                         // rows of normalised numbers, if x is entered through a norm
    float *weights, *biases;               // of the chunk
    float *weight_sums, *bias_sums;        // gradients of both, in the same order
    double* norm_sums;                     // (vectors, 2, LANES)
    int64_t size;

    DepthwiseBackwardScratch(const Chunks& chunks, bool norm, float* base) {
        Arena arena{base};
        const int64_t row = chunks.call.width * LANES;
        const int64_t rows = chunks.largest_of([](int64_t kernel) { return kernel; });
        const int64_t areas = chunks.largest_of([](int64_t kernel) { return kernel * kernel; });
        const int64_t vectors = chunks.largest_of([](int64_t) { return 1; });
        ring = arena.take(rows * row);
        grads = arena.take(rows * row);
        line = arena.take(vectors * row);
        weights = arena.take(areas * LANES);
        biases = arena.take(vectors * LANES);
        weight_sums = arena.take(areas * LANES);
        bias_sums = arena.take(vectors * LANES);
        normed = arena.take(norm ? rows * row : 0);
        norm_sums = reinterpret_cast<double*>(arena.take(vectors * 4 * LANES));
        size = arena.used;
    }
};

// Copy row y of x to its slot in the ring buffer, entered if there is an entry; its normalised numbers to theirs.
template <class T>
inline void load_entered(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k, int64_t b,
                         int64_t y) {
    const DepthwiseCall& c = g.forward;
    if (!g.norm_sums || y < 0 || y >= c.height) return load_input<T>(c, k, b, y, s.ring);
    const int64_t slot = (y % k.kernel) * k.vectors() * c.width * LANES;
    float *row = s.ring + slot, *normed = s.normed + slot;
    const PixelRow<T> from(c.x, b, y, k);
    const float *scale = c.scale + k.first, *shift = c.shift + k.first, *mean = g.mean + k.first,
                *inverse = g.inverse + k.first;
    each_vector(k, c.width, [=](auto place) {
        const auto of = [=](const float* numbers) { return load_lanes(numbers + place.channel, place.lanes); };
        const Vec x = gelu(from.read(place));
        store(row + place.offset, x * of(scale) + of(shift));
        store(normed + place.offset, (x - of(mean)) * of(inverse));
    });
}

// Row y of y's gradient, through activation and gate; also the gate's own gradient, if `own`: the row is this band's.
template <class T>
inline void activation_backward(const DepthwiseBackwardCall& g, const Chunk& k, int64_t b, int64_t y, bool own,
                                const float* line, float* grads) {
    const DepthwiseCall& c = g.forward;
    const PixelRow<T> grad(g.grad, b, y, k), value(c.value, b, y, k), grad_value(own ? g.grad_value : Map{}, b, y, k);
    const float *slope = g.slope ? g.slope + k.first : nullptr, *offset = g.offset + k.first;
    each_vector(k, c.width, [=](auto place) {
        const Vec result = load(line + place.offset), phi = normal_distribution(result);
        Vec from = grad.read(place);
        if (grad_value) grad_value.write(place, from * result * phi);
        if (value) from *= value.read(place);
        if (slope)
            from += result * phi * load_lanes(slope + place.channel, place.lanes) +
                    load_lanes(offset + place.channel, place.lanes);
        store(grads + place.offset, from * gelu_derivative(result, phi));
    });
}

// Store row y of y's gradient in its ring buffer.
template <class T>
inline void make_gradient_row(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                              int64_t b, int64_t y, bool own) {
    const DepthwiseCall& c = g.forward;
    if (c.gelu) load_entered<T>(g, s, k, b, y + k.kernel / 2);
    if (y < 0 || y >= c.height) return;
    if (!c.gelu) return load_ring<T>(c, g.grad, k, b, y, s.grads);
    convolve(c, k, s.ring, y, s.weights, s.biases, s.line);
    activation_backward<T>(g, k, b, y, own, s.line, s.grads + (y % k.kernel) * k.vectors() * c.width * LANES);
}

// Adds a row of gradients, and its products with the normalised numbers, to sums (2, LANES).
inline void add_norm_sums(const float* grads, const float* normed, int64_t width, double* sums) {
    Vec total{}, products{};
    for (int64_t x = 0; x < width; ++x) {
        total += load(grads + x * LANES);
        products += load(grads + x * LANES) * load(normed + x * LANES);
    }
    for (int64_t i = 0; i < LANES; ++i) {
        sums[i] += total[i];
        sums[LANES + i] += products[i];
    }
}

// The gradient of row y of x, and its share of the gradients of weights and bias.
template <class T>
inline void use_gradient_rows(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                              int64_t b, int64_t y) {
    const DepthwiseCall& c = g.forward;
    if (!c.gelu) load_entered<T>(g, s, k, b, y);
    const RowKernels kernels = row_kernels(k.kernel, c.width);
    for (int64_t i = 0; i < k.vectors(); ++i) {
        const int64_t row = ((y % k.kernel) * k.vectors() + i) * c.width * LANES, area = i * k.area * LANES;
        kernels.backward(Reach(s.grads, c, k, y, i).rows, k.kernel, c.width, s.weights + area, s.ring + row,
                         s.line + i * c.width * LANES, s.weight_sums + area);
        Vec total = {};
        for (int64_t x = 0; x < c.width; ++x) total += load(s.grads + row + x * LANES);
        store(s.bias_sums + i * LANES, load(s.bias_sums + i * LANES) + total);
        if (g.norm_sums) add_norm_sums(s.line + i * c.width * LANES, s.normed + row, c.width, s.norm_sums + i * 2 * LANES);
    }
    const PixelRow<T> out(g.grad_x, b, y, k);
    const float* line = s.line;
    each_vector(k, c.width, [=](auto place) { out.write(place, load(line + place.offset)); });
}

// Write the sums of a chunk to their slot and reset them.
inline void store_sums(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                       int64_t slot) {
    const DepthwiseCall& c = g.forward;
    int64_t weights = 0, channels = 0;
    for (int64_t i = 0; i < c.groups; ++i) {
        weights += c.channels[i] * c.kernels[i] * c.kernels[i];
        channels += c.channels[i];
    }
    const int64_t lanes = k.count < LANES ? k.count : LANES;
    float *weight = g.grad_weight + slot * weights + k.weights, *bias = g.grad_bias + slot * channels + k.first;
    for (int64_t i = 0; i < k.vectors(); ++i) {
        store_turned(s.weight_sums + i * k.area * LANES, LANES, lanes, k.area, weight + k.start(i) * k.area, k.area);
        store_some(bias + k.start(i), load(s.bias_sums + i * LANES), lanes);
    }
    zero(s.weight_sums, k.vectors() * k.area * LANES);
    zero(s.bias_sums, k.vectors() * LANES);
    if (g.norm_sums) store_double_sums(c, k, s.norm_sums, g.norm_sums, slot);
}

template <class T>
inline void backward_piece(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                           const Piece& piece) {
    const DepthwiseCall& c = g.forward;
    const int64_t first = piece.band * c.height / c.bands, last = (piece.band + 1) * c.height / c.bands;
    const int64_t radius = k.kernel / 2, b = piece.b;
    if (c.gelu)
        for (int64_t y = first - 2 * radius; y < first; ++y) load_entered<T>(g, s, k, b, y);
    for (int64_t y = first - radius; y < last + radius; ++y) {
        make_gradient_row<T>(g, s, k, b, y, y >= first && y < last);
        if (y - radius >= first) use_gradient_rows<T>(g, s, k, b, y - radius);
    }
}

inline Chunks backward_chunks(const DepthwiseBackwardCall& g) { return Chunks(g.forward, g.norm_sums ? 3 : 2); }

template <class T>
void depthwise_backward_work(const DepthwiseBackwardCall& g, int64_t thread) {
    const DepthwiseCall& c = g.forward;
    const Chunks chunks = backward_chunks(g);
    const int64_t size = DepthwiseBackwardScratch(chunks, g.norm_sums, nullptr).size;
    const int64_t pieces = chunks.count() * c.batch * c.bands;
    const DepthwiseBackwardScratch s(chunks, g.norm_sums, g.workspace + thread * size);
    zero(g.workspace + thread * size, size);
    for (int64_t i = thread; i < pieces; i += c.threads) {
        const Piece piece(c, i);
        const Chunk k = chunks.at(piece.chunk);
        const bool own = c.weight_batch;  // every sample has its own weights
        if (own || i < c.threads || Piece(c, i - c.threads).chunk != piece.chunk)
            arrange_weights(c, k, piece.b, s.weights, s.biases);
        backward_piece<T>(g, s, k, piece);
        const bool ends = i + c.threads >= pieces || Piece(c, i + c.threads).chunk != piece.chunk;
        if (own || ends) store_sums(g, s, k, own ? piece.band * c.batch + piece.b : thread);
    }
}

int64_t depthwise_backward_workspace(const DepthwiseBackwardCall& g) {
    return g.forward.threads * DepthwiseBackwardScratch(backward_chunks(g), g.norm_sums, nullptr).size;
}

void depthwise_backward(const DepthwiseBackwardCall& g, int64_t thread) {
    if (g.forward.half)
        depthwise_backward_work<bfloat16>(g, thread);
    else
        depthwise_backward_work<float>(g, thread);
}
