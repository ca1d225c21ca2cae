// The position bias of another map, resized to this one while attention reads it: bilinear on four axes, which is
// separable. A row of queries resizes the table along rows; a vector of queries then resizes its part of that along
// columns, first over cells, then over pixels. Nothing as large as (queries, keys) exists.

// One thread's scratch memory; none unless the bias is resized.
struct BiasScratch {
    float *rows = nullptr, *grad_rows = nullptr;  // (pool rows, table columns) and a span: the table at a query row
    float* cells = nullptr;                       // (P, span): at consecutive reference pixels
    float* weights = nullptr;                     // (span, LANES): of these pixels, for a vector of queries
    int64_t row_size = 0, span = 0;

    BiasScratch() = default;
    BiasScratch(const AttentionCall& c, Arena& arena, bool backward) {
        if (!c.resize.table_columns) return;
        const ResizedAxis& columns = c.resize.columns;
        const int64_t most = (LANES - 1) * columns.reference / c.width + 3;  // pixels that a vector of queries reads
        span = round_up(most < columns.reference ? most : columns.reference, LANES);
        row_size = c.resize.rows.pool * c.resize.table_columns;
        rows = arena.take(row_size + span);
        if (backward) grad_rows = arena.take(row_size + span);
        cells = arena.take(c.pooled * span);
        weights = arena.take(span * LANES);
    }
};

// The two numbers that linear interpolation reads, and the share of the second.
struct Taps {
    int64_t first, second;
    float share;
};

inline Taps pixel_taps(const ResizedAxis& axis, int64_t i) {
    const int64_t first = axis.pixels[i];
    return {first, first + 1 < axis.reference ? first + 1 : first, axis.pixel_shares[i]};
}

// As places in the table for reference pixel 0.
inline Taps cell_taps(const ResizedAxis& axis, int64_t i) {
    return {axis.cells[i], axis.cells[axis.pool + i], axis.cell_shares[i]};
}

// Call body(offset of a table row, offset of a row of the scratch, weight) for everything that query row y reads.
template <class Body>
inline void each_resized_row(const AttentionCall& c, int64_t y, Body body) {
    const ResizedAxis& axis = c.resize.rows;
    const int64_t columns = c.resize.table_columns;
    const Taps pixel = pixel_taps(axis, y);
    for (int64_t i = 0; i < axis.pool; ++i) {
        const Taps cell = cell_taps(axis, i);
        for (int tap = 0; tap < 4; ++tap) {
            const float weight = (tap & 1 ? pixel.share : 1 - pixel.share) * (tap & 2 ? cell.share : 1 - cell.share);
            const int64_t row = axis.step * (tap & 1 ? pixel.second : pixel.first) + (tap & 2 ? cell.second : cell.first);
            if (weight) body(row * columns, i * columns, weight);
        }
    }
}

// Resize the table of head h along rows, for query row y.
inline void resize_rows(const AttentionCall& c, const BiasScratch& s, int64_t h, int64_t y) {
    const float* table = c.pool_bias + h * c.bias_head;
    zero(s.rows, s.row_size + s.span);
    each_resized_row(c, y, [&](int64_t from, int64_t to, float weight) {
        for (int64_t i = 0; i < c.resize.table_columns; ++i) s.rows[to + i] += weight * table[from + i];
    });
}

// The reference pixels that the queries of columns x ... x + LANES - 1 read.
struct PixelRange {
    int64_t first, count;
};

// Write the weights of the reference pixels for a vector of queries: 0 for columns beyond the map.
inline PixelRange column_weights(const AttentionCall& c, const BiasScratch& s, int64_t x) {
    const ResizedAxis& axis = c.resize.columns;
    const int64_t inside = c.width - x < LANES ? c.width - x : LANES;
    const int64_t first = axis.pixels[x], count = pixel_taps(axis, x + inside - 1).second - first + 1;
    zero(s.weights, count * LANES);
    for (int64_t i = 0; i < inside; ++i) {
        const Taps pixel = pixel_taps(axis, x + i);
        s.weights[(pixel.first - first) * LANES + i] += 1 - pixel.share;
        s.weights[(pixel.second - first) * LANES + i] += pixel.share;
    }
    return {first, count};
}

// Resize along columns over cells: the bias of every key at the reference pixels of a vector of queries.
inline void resize_cells(const AttentionCall& c, const BiasScratch& s, PixelRange range) {
    const ResizedAxis& axis = c.resize.columns;
    float* to = s.cells;
    for (int64_t row = 0; row < c.resize.rows.pool; ++row)
        for (int64_t column = 0; column < axis.pool; ++column, to += s.span) {
            const Taps cell = cell_taps(axis, column);
            const float* from = s.rows + row * c.resize.table_columns + range.first;
            for (int64_t i = 0; i < range.count; i += LANES)
                store(to + i, load(from + cell.first + i) * (1 - cell.share) + load(from + cell.second + i) * cell.share);
        }
}

// out[i] = sum over reference pixels of weights * cells, for N keys and a vector of queries.
template <int N>
inline void resize_pixels(const BiasScratch& s, const float* cells, int64_t count, float* out) {
    Vec acc[N] = {};
    for (int64_t x = 0; x < count; ++x) {
        const Vec weight = load(s.weights + x * LANES);
        for (int i = 0; i < N; ++i) acc[i] += cells[i * s.span + x] * weight;
    }
    for (int i = 0; i < N; ++i) store(out + i * TILE, acc[i]);
}

// The position bias (P, TILE) of all keys and the queries of columns x ... x + LANES - 1, in the row of resize_rows.
inline void resized_bias(const AttentionCall& c, const BiasScratch& s, int64_t x, float* out) {
    if (x >= c.width) return;
    const PixelRange range = column_weights(c, s, x);
    resize_cells(c, s, range);
    int64_t i = 0;
    for (; i + 8 <= c.pooled; i += 8) resize_pixels<8>(s, s.cells + i * s.span, range.count, out + i * TILE);
    for (; i < c.pooled; ++i) resize_pixels<1>(s, s.cells + i * s.span, range.count, out + i * TILE);
}

// ---------------------------------------------------------------------------------------------------------------------
// Gradients: the same steps in reverse.

// The lanes of a vector added up to SIDE of them.
inline Tile folded(Vec x) {
    alignas(64) float numbers[LANES];
    store(numbers, x);
    Tile total = read(numbers);
    for (int64_t i = SIDE; i < LANES; i += SIDE) total += read(numbers + i);
    return total;
}

// Numbers 0 ... SIDE - 1: sum over lanes of grads * weights of reference pixel x + number, if it is within `count`.
inline Tile pixel_grads(const BiasScratch& s, Vec grads, int64_t x, int64_t count) {
    Tile products[SIDE] = {};
    for (int64_t i = 0; i < SIDE && x + i < count; ++i) products[i] = folded(grads * load(s.weights + (x + i) * LANES));
    turn(products);
    for (int64_t i = 1; i < SIDE; ++i) products[0] += products[i];
    return products[0];
}

inline void add(float* to, Tile x) { write(to, read(to) + x); }

// Add what the gradients (P, TILE) of a vector of queries give to the resized row's gradient.
inline void add_resized_grads(const AttentionCall& c, const BiasScratch& s, int64_t x, const float* grads) {
    if (x >= c.width) return;
    const PixelRange range = column_weights(c, s, x);
    const ResizedAxis& axis = c.resize.columns;
    const auto inside = lane_index() < float(c.width - x);
    for (int64_t row = 0; row < c.resize.rows.pool; ++row)
        for (int64_t column = 0; column < axis.pool; ++column, grads += TILE) {
            const Taps cell = cell_taps(axis, column);
            float* to = s.grad_rows + row * c.resize.table_columns + range.first;
            const Vec present = inside ? load(grads) : Vec{};
            for (int64_t i = 0; i < range.count; i += SIDE) {
                const Tile sums = pixel_grads(s, present, i, range.count);
                add(to + cell.first + i, sums * (1 - cell.share));
                add(to + cell.second + i, sums * cell.share);
            }
        }
}

// Add the gradient of query row y to that of a head's table, and reset it.
inline void flush_resized_grads(const AttentionCall& c, const BiasScratch& s, int64_t y, float* table) {
    each_resized_row(c, y, [&](int64_t to, int64_t from, float weight) {
        for (int64_t i = 0; i < c.resize.table_columns; ++i) table[to + i] += weight * s.grad_rows[from + i];
    });
    zero(s.grad_rows, s.row_size + s.span);
}
