// Depthwise convolution, backward: one pass. Each row of gradients of y is computed (with the convolution recomputed if
// an activation needs y) and kept in a ring buffer. Once all rows that a row of x contributes to are there, the gradient
// of that row is written and its share is added to the gradient of the weights.

struct DepthwiseBackwardScratch {
    float *ring, *grads, *line;            // rows of x and of y's gradient; the row being computed
    float *weights, *biases;               // of the chunk
    float *weight_sums, *bias_sums;        // gradients of both, in the same order
    int64_t size;

    DepthwiseBackwardScratch(const Chunks& chunks, float* base) {
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
        size = arena.used;
    }
};

// Row y of y's gradient, through activation and gate; also the gate's own gradient, if `own`: the row is this band's.
template <class T>
inline void activation_backward(const DepthwiseBackwardCall& g, const Chunk& k, int64_t b, int64_t y, bool own,
                                const float* line, float* grads) {
    const DepthwiseCall& c = g.forward;
    const PixelRow<T> grad(g.grad, b, y, k), value(c.value, b, y, k), grad_value(own ? g.grad_value : Map{}, b, y, k);
    each_vector(k, c.width, [=](auto place) {
        const Vec result = load(line + place.offset), phi = normal_distribution(result);
        Vec from = grad.read(place);
        if (grad_value) grad_value.write(place, from * result * phi);
        if (value) from *= value.read(place);
        store(grads + place.offset, from * gelu_derivative(result, phi));
    });
}

// Store row y of y's gradient in its ring buffer.
template <class T>
inline void make_gradient_row(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                              int64_t b, int64_t y, bool own) {
    const DepthwiseCall& c = g.forward;
    if (c.gelu) load_ring<T>(c, c.x, k, b, y + k.kernel / 2, s.ring);
    if (y < 0 || y >= c.height) return;
    if (!c.gelu) return load_ring<T>(c, g.grad, k, b, y, s.grads);
    convolve(c, k, s.ring, y, s.weights, s.biases, s.line);
    activation_backward<T>(g, k, b, y, own, s.line, s.grads + (y % k.kernel) * k.vectors() * c.width * LANES);
}

// The gradient of row y of x, and its share of the gradients of weights and bias.
template <class T>
inline void use_gradient_rows(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                              int64_t b, int64_t y) {
    const DepthwiseCall& c = g.forward;
    if (!c.gelu) load_ring<T>(c, c.x, k, b, y, s.ring);
    const RowKernels kernels = row_kernels(k.kernel, c.width);
    for (int64_t i = 0; i < k.vectors(); ++i) {
        const int64_t row = ((y % k.kernel) * k.vectors() + i) * c.width * LANES, area = i * k.area * LANES;
        kernels.backward(Reach(s.grads, c, k, y, i).rows, k.kernel, c.width, s.weights + area, s.ring + row,
                         s.line + i * c.width * LANES, s.weight_sums + area);
        Vec total = {};
        for (int64_t x = 0; x < c.width; ++x) total += load(s.grads + row + x * LANES);
        store(s.bias_sums + i * LANES, load(s.bias_sums + i * LANES) + total);
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
}

template <class T>
inline void backward_piece(const DepthwiseBackwardCall& g, const DepthwiseBackwardScratch& s, const Chunk& k,
                           const Piece& piece) {
    const DepthwiseCall& c = g.forward;
    const int64_t first = piece.band * c.height / c.bands, last = (piece.band + 1) * c.height / c.bands;
    const int64_t radius = k.kernel / 2, b = piece.b;
    if (c.gelu)
        for (int64_t y = first - 2 * radius; y < first; ++y) load_ring<T>(c, c.x, k, b, y, s.ring);
    for (int64_t y = first - radius; y < last + radius; ++y) {
        make_gradient_row<T>(g, s, k, b, y, y >= first && y < last);
        if (y - radius >= first) use_gradient_rows<T>(g, s, k, b, y - radius);
    }
}

template <class T>
void depthwise_backward_work(const DepthwiseBackwardCall& g, int64_t thread) {
    const DepthwiseCall& c = g.forward;
    const Chunks chunks(c, 2);
    const int64_t size = DepthwiseBackwardScratch(chunks, nullptr).size, pieces = chunks.count() * c.batch * c.bands;
    const DepthwiseBackwardScratch s(chunks, g.workspace + thread * size);
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
    return g.forward.threads * DepthwiseBackwardScratch(Chunks(g.forward, 2), nullptr).size;
}

void depthwise_backward(const DepthwiseBackwardCall& g, int64_t thread) {
    if (g.forward.half)
        depthwise_backward_work<bfloat16>(g, thread);
    else
        depthwise_backward_work<float>(g, thread);
}
