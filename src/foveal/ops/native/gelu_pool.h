// GELU and adaptive average pooling of a map (B, H, W, C) in one pass that writes only the pooled map.

// The rows or columns of cell i of `cells`: from floor(i * size / cells) to ceil((i + 1) * size / cells).
struct Cell {
    int64_t first, last;
    Cell(int64_t i, int64_t size, int64_t cells) : first(i * size / cells), last(((i + 1) * size + cells - 1) / cells) {}
    int64_t count() const { return last - first; }
};

template <class T>
inline const T* pixel(const Map& map, int64_t b, int64_t y, int64_t x) {
    return static_cast<const T*>(map.data) + b * map.batch + y * map.row + x * map.column;
}

template <class T>
inline void pool_cell(const GeluPoolCall& p, int64_t b, int64_t py, int64_t px, float* sums) {
    const Cell rows(py, p.height, p.pool_height), columns(px, p.width, p.pool_width);
    const int64_t wide = round_up(p.channels, LANES);
    zero(sums, wide);
    for (int64_t y = rows.first; y < rows.last; ++y)
        for (int64_t x = columns.first; x < columns.last; ++x) {
            const T* from = pixel<T>(p.x, b, y, x);
            for (int64_t c = 0; c < wide; c += LANES) store(sums + c, load(sums + c) + gelu(load_channels(from, c, p.channels)));
        }
    const float share = 1.0f / float(rows.count() * columns.count());
    T* to = static_cast<T*>(p.pooled.data) + b * p.pooled.batch + py * p.pooled.row + px * p.pooled.column;
    for (int64_t c = 0; c < wide; c += LANES) store_channels(load(sums + c) * share, to, c, p.channels);
}

template <class T>
inline void gelu_pool_work(const GeluPoolCall& p, int64_t thread) {
    float* sums = p.workspace + thread * round_up(p.channels, 64);
    const int64_t cells = p.pool_height * p.pool_width, items = p.batch * cells;
    for (int64_t i = thread * items / p.threads; i < (thread + 1) * items / p.threads; ++i)
        pool_cell<T>(p, i / cells, i % cells / p.pool_width, i % p.pool_width, sums);
}

// The sum over all cells that contain a pixel of their gradient per pixel: (channels).
template <class T>
inline void gather_cells(const GeluPoolCall& p, int64_t b, int64_t y, int64_t x, float* sums) {
    zero(sums, round_up(p.channels, LANES));
    // The first cell that contains the pixel is at most one before the cell computed from its index.
    for (int64_t py = y * p.pool_height / p.height - 1; py < p.pool_height; ++py) {
        if (py < 0) continue;
        const Cell rows(py, p.height, p.pool_height);
        if (rows.first > y) break;
        if (rows.last <= y) continue;
        for (int64_t px = x * p.pool_width / p.width - 1; px < p.pool_width; ++px) {
            if (px < 0) continue;
            const Cell columns(px, p.width, p.pool_width);
            if (columns.first > x) break;
            if (columns.last <= x) continue;
            const float share = 1.0f / float(rows.count() * columns.count());
            const T* grad = pixel<T>(p.pooled, b, py, px);
            for (int64_t c = 0; c < p.channels; c += LANES)
                store(sums + c, load(sums + c) + load_channels(grad, c, p.channels) * share);
        }
    }
}

template <class T>
inline void gelu_pool_backward_work(const GeluPoolCall& p, int64_t thread) {
    float* sums = p.workspace + thread * round_up(p.channels, 64);
    const int64_t area = p.height * p.width, items = p.batch * area;
    for (int64_t i = thread * items / p.threads; i < (thread + 1) * items / p.threads; ++i) {
        const int64_t b = i / area, y = i % area / p.width, x = i % p.width;
        gather_cells<T>(p, b, y, x, sums);
        const T* from = pixel<T>(p.x, b, y, x);
        T* to = const_cast<T*>(pixel<T>(p.grad_x, b, y, x));
        for (int64_t c = 0; c < p.channels; c += LANES) {
            const Vec number = load_channels(from, c, p.channels);
            const Vec slope = gelu_derivative(number, normal_distribution(number));
            store_channels(load(sums + c) * slope, to, c, p.channels);
        }
    }
}

int64_t gelu_pool_workspace(const GeluPoolCall& p) { return p.threads * round_up(p.channels, 64); }

void gelu_pool(const GeluPoolCall& p, int64_t thread) {
    p.half ? gelu_pool_work<bfloat16>(p, thread) : gelu_pool_work<float>(p, thread);
}

void gelu_pool_backward(const GeluPoolCall& p, int64_t thread) {
    p.half ? gelu_pool_backward_work<bfloat16>(p, thread) : gelu_pool_backward_work<float>(p, thread);
}
