// Aggregated attention: what forward and backward share.
//
// Queries of one row are in the lanes of a vector, so a product with a key is `dim` multiply-adds without a sum over
// lanes, and a window position is a load at another column. Maps are transposed, row by row, to (dim, column).

constexpr float ABSENT = -1e30f;  // a logit whose probability is 0

// Sizes of a call, and the layout of one thread's scratch memory.
struct Plan {
    int64_t radius, area;   // of the window
    int64_t dim;            // of a head, rounded up to 8: rows beyond are 0
    int64_t row;            // floats of one transposed row: radius, width, radius and room for whole tiles
    int64_t map_row;        // floats of all dims of a transposed row

    explicit Plan(const AttentionCall& c)
        : radius(c.window / 2), area(c.window * c.window), dim(round_up(c.dim, 8)),
          row(round_up(c.width, TILE) + round_up(2 * (c.window / 2), LANES)), map_row(dim * row) {}
};

// ---------------------------------------------------------------------------------------------------------------------
// Products of a tile of positions (dim, V * LANES) with rows of numbers shared by all positions.

// Rows (count, dim) in groups of at most GROUP, each stored as (dim, row): broadcasts are consecutive in memory. Their
// sums, for two vectors of queries, must fit the registers.
constexpr int64_t GROUP = LANES == 16 ? 8 : 6;

struct Packed {
    const float* data;
    int64_t count, dim;
    int64_t groups() const { return (count + GROUP - 1) / GROUP; }
    int64_t start(int64_t group) const { return group * count / groups(); }
};

inline void pack(const float* rows, int64_t stride, int64_t count, int64_t dim, float* out) {
    const Packed packed{out, count, dim};
    for (int64_t g = 0; g < packed.groups(); ++g) {
        const int64_t first = packed.start(g), n = packed.start(g + 1) - first;
        float* group = out + first * dim;
        for (int64_t d = 0; d < dim; ++d)
            for (int64_t i = 0; i < n; ++i) group[d * n + i] = rows[(first + i) * stride + d];
    }
}

// The initial values of sums: number i of column x of a tile is data[rows[i] + x], or data[i * TILE + x] without rows;
// without data it is 0.
struct Start {
    const float* data;
    const int64_t* rows;
    const float* at(int64_t i) const { return data + (rows ? rows[i] : i * TILE); }
};

template <int N, int V>
inline void group_products(const float* group, int64_t dim, const float* tile, Start start, int64_t first, float* out) {
    Vec acc[N][V] = {};
    if (start.data)
        for (int i = 0; i < N; ++i)
            for (int v = 0; v < V; ++v) acc[i][v] = load(start.at(first + i) + v * LANES);
    for (int64_t d = 0; d < dim; ++d) {
        Vec x[V];
        for (int v = 0; v < V; ++v) x[v] = load(tile + d * TILE + v * LANES);
        for (int i = 0; i < N; ++i)
            for (int v = 0; v < V; ++v) acc[i][v] += group[d * N + i] * x[v];
    }
    for (int i = 0; i < N; ++i)
        for (int v = 0; v < V; ++v) store(out + i * TILE + v * LANES, acc[i][v]);
}

template <int N, int V>
inline void some_products(int64_t n, const float* group, int64_t dim, const float* tile, Start start, int64_t first,
                          float* out) {
    if (n == N)
        group_products<N, V>(group, dim, tile, start, first, out);
    else if constexpr (N > 1)
        some_products<N - 1, V>(n, group, dim, tile, start, first, out);
}

// out[i] = start[i] + sum over d of rows[i][d] * tile[d]
template <int V>
inline void products(const Packed& rows, const float* tile, float* out, Start start = {nullptr, nullptr}) {
    for (int64_t g = 0; g < rows.groups(); ++g) {
        const int64_t first = rows.start(g), n = rows.start(g + 1) - first;
        some_products<GROUP, V>(n, rows.data + first * rows.dim, rows.dim, tile, start, first, out + first * TILE);
    }
}

// The transposed rows in the window of one query row: row dy of it at rows[dy], null outside the map; column x of the
// map is at x + radius.
struct WindowRows {
    const float* rows[64];
};

// out[j] = sum over d of number d of window position j * tile[d]; rows outside the map are not written.
template <int V>
inline void window_products(const Plan& p, int64_t window, int64_t dim, const WindowRows& map, int64_t x,
                            const float* tile, float* out) {
    for (int64_t dy = 0; dy < window; ++dy) {
        if (!map.rows[dy]) continue;
        const float* row = map.rows[dy] + x;
        int64_t dx = 0;
        for (; dx + 3 <= window; dx += 3) {
            Vec acc[3][V] = {};
            for (int64_t d = 0; d < dim; ++d)
                for (int v = 0; v < V; ++v) {
                    const Vec q = load(tile + d * TILE + v * LANES);
                    const float* key = row + d * p.row + dx + v * LANES;
                    for (int i = 0; i < 3; ++i) acc[i][v] += q * load(key + i);
                }
            for (int i = 0; i < 3; ++i)
                for (int v = 0; v < V; ++v) store(out + (dy * window + dx + i) * TILE + v * LANES, acc[i][v]);
        }
        for (; dx < window; ++dx)
            for (int v = 0; v < V; ++v) {
                Vec acc = {};
                for (int64_t d = 0; d < dim; ++d)
                    acc += load(tile + d * TILE + v * LANES) * load(row + d * p.row + dx + v * LANES);
                store(out + (dy * window + dx) * TILE + v * LANES, acc);
            }
    }
}

// Dims whose sums are computed together for V vectors of queries; a divisor of 8.
template <int V>
constexpr int64_t SUMS = LANES == 16 ? 8 : 8 / V;

// out[d] = sum over shared rows of weights[i] * rows[i][d] + sum over the window of window_weights[j] * position j's d.
template <int V>
inline void weighted_sums(const Plan& p, int64_t window, const float* rows, int64_t count, const float* weights,
                          const WindowRows& map, int64_t x, const float* window_weights, float* out) {
    constexpr int64_t N = SUMS<V>;
    for (int64_t d = 0; d < p.dim; d += N) {
        Vec acc[N][V] = {};
        for (int64_t i = 0; i < count; ++i) {
            Vec w[V];
            for (int v = 0; v < V; ++v) w[v] = load(weights + i * TILE + v * LANES);
            const float* numbers = rows + i * p.dim + d;
            for (int k = 0; k < N; ++k)
                for (int v = 0; v < V; ++v) acc[k][v] += numbers[k] * w[v];
        }
        for (int64_t dy = 0; dy < window; ++dy) {
            if (!map.rows[dy]) continue;
            for (int64_t dx = 0; dx < window; ++dx) {
                Vec w[V];
                for (int v = 0; v < V; ++v) w[v] = load(window_weights + (dy * window + dx) * TILE + v * LANES);
                const float* numbers = map.rows[dy] + d * p.row + x + dx;
                for (int k = 0; k < N; ++k)
                    for (int v = 0; v < V; ++v) acc[k][v] += load(numbers + k * p.row + v * LANES) * w[v];
            }
        }
        for (int k = 0; k < N; ++k)
            for (int v = 0; v < V; ++v) store(out + (d + k) * TILE + v * LANES, acc[k][v]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Unit vectors.

constexpr float EPS = 1e-12f;  // the smallest norm that is divided by

// Divide every column of a transposed row by its norm; store the inverse norms if `inverses` is given.
inline void normalise_columns(float* row, int64_t ld, int64_t dim, int64_t columns, float* inverses) {
    for (int64_t x = 0; x < columns; x += LANES) {
        Vec squares = {};
        for (int64_t d = 0; d < dim; ++d) {
            const Vec number = load(row + d * ld + x);
            squares += number * number;
        }
        const Vec inverse = 1.0f / largest(square_root(squares), splat(EPS));
        for (int64_t d = 0; d < dim; ++d) store(row + d * ld + x, load(row + d * ld + x) * inverse);
        if (inverses) store(inverses + x, inverse);
    }
}

// Row y of a key or value map, transposed. Everything beyond both ends, and the padding dims, must be 0 before and
// stays 0.
template <class T>
inline void load_row(const AttentionCall& c, const Plan& p, const Map& map, int64_t b, int64_t h, int64_t y, float* out) {
    const T* source = static_cast<const T*>(map.data) + b * map.batch + h * map.head + y * map.row;
    load_turned(source, map.column, c.width, c.dim, out + p.radius, p.row);
    for (int64_t d = 0; d < c.dim; ++d)
        for (int64_t x = c.width; x < round_up(c.width, SIDE); ++x) out[d * p.row + p.radius + x] = 0;
}

// One vector of a pooled map as floats, padded with zeros, and divided by its norm if `inverse` is given.
template <class T>
inline void load_vector(const AttentionCall& c, const Plan& p, const T* from, float* to, float* inverse) {
    Tile squares = {};
    int64_t d = 0;
    for (; d + SIDE <= c.dim; d += SIDE) {
        const Tile x = read(from + d);
        write(to + d, x);
        squares += x * x;
    }
    float total = 0;
    for (int k = 0; k < SIDE; ++k) total += squares[k];
    for (; d < c.dim; ++d) {
        to[d] = to_float(from[d]);
        total += to[d] * to[d];
    }
    for (; d < p.dim; ++d) to[d] = 0;
    if (!inverse) return;
    const float norm = __builtin_sqrtf(total);
    *inverse = 1.0f / (norm > EPS ? norm : EPS);
    for (d = 0; d < c.dim; ++d) to[d] *= *inverse;
}

// Rows (P, dim) of heads first ... first + count - 1 of a pooled map, `stride` floats from head to head, divided by their
// norms (heads, P) if these are given. A pooled position is read for all heads at once: they are neighbours in memory.
template <class T>
inline void load_pooled(const AttentionCall& c, const Plan& p, const Map& map, int64_t b, int64_t first, int64_t count,
                        float* out, int64_t stride, float* inverses) {
    const T* source = static_cast<const T*>(map.data) + b * map.batch + first * map.head;
    for (int64_t i = 0; i < c.pooled; ++i)
        for (int64_t h = 0; h < count; ++h)
            load_vector(c, p, source + i * map.column + h * map.head, out + h * stride + i * p.dim,
                        inverses ? inverses + h * c.pooled + i : nullptr);
}

// ---------------------------------------------------------------------------------------------------------------------
// One tile of queries: columns x ... of row y.

struct TilePlace {
    int64_t h, y, x, count;  // count: how many of the tile's columns are in the map
};

inline int64_t rows_inside(const AttentionCall& c, int64_t y) {
    const int64_t r = c.window / 2, low = y - r < 0 ? 0 : y - r, high = y + r >= c.height ? c.height - 1 : y + r;
    return high - low + 1;
}

// log(n_i) of every query of a row; n_i counts the window keys inside the map.
inline void row_log_length(const AttentionCall& c, int64_t y, float* out, int64_t columns) {
    const int64_t r = c.window / 2, rows = c.window ? rows_inside(c, y) : 0;
    for (int64_t x = 0; x < columns; ++x) {
        const int64_t low = x - r < 0 ? 0 : x - r, high = x + r >= c.width ? c.width - 1 : x + r;
        out[x] = c.log_length[rows * (high < low ? 0 : high - low + 1)];
    }
}

// Transposed queries of a tile: `unit` = queries / norm, `scaled` = (unit + embedding) * scale * log length.
template <class T, int V>
inline void load_queries(const AttentionCall& c, const T* source, const TilePlace& t,
                         const float* log_length, float* unit, float* scaled, float* inverses) {
    if (t.count < V * LANES) zero(unit, c.dim * TILE);  // what stood there could be anything, even a NaN
    load_turned(source, c.q.column, t.count, c.dim, unit, TILE);
    normalise_columns(unit, TILE, c.dim, V * LANES, inverses);
    for (int v = 0; v < V; ++v) {
        const Vec factor = c.scale[t.h] * load(log_length + t.x + v * LANES);
        for (int64_t d = 0; d < c.dim; ++d)
            store(scaled + d * TILE + v * LANES,
                  (load(unit + d * TILE + v * LANES) + c.query_embedding[t.h * c.dim + d]) * factor);
    }
}

// 1 in the lanes whose columns are in the map, else 0.
template <int V>
struct Inside {
    Vec lanes[V];
    explicit Inside(const TilePlace& t) {
        for (int v = 0; v < V; ++v)
            lanes[v] = lane_index() + float(v * LANES) < float(t.count) ? splat(1.0f) : Vec{};
    }
    Vec operator()(Vec x, int v) const { return lanes[v] > 0.0f ? x : Vec{}; }
};

// The position bias of a tile's queries and all pooled keys, as the initial value of their logits (P, TILE).
template <int V>
inline Start pool_bias(const AttentionCall& c, const TilePlace& t, const BiasScratch& scratch, float* logits) {
    if (c.resize.table_columns) {
        for (int v = 0; v < V; ++v) resized_bias(c, scratch, t.x + v * LANES, logits + v * LANES);
        return {logits, nullptr};
    }
    const int64_t first = t.h * c.bias_head + t.y * c.bias_row + t.x * c.bias_column;
    const float* bias = c.pool_bias + first;
    if (c.bias_column == 1 && t.count == V * LANES) return {bias, c.bias_keys};
    const Inside<V> inside(t);
    for (int64_t i = 0; i < c.pooled; ++i) {
        const float* from = bias + c.bias_keys[i];
        float* to = logits + i * TILE;
        if (c.bias_column == 1 && first + c.bias_keys[i] + V * LANES <= c.bias_size)
            for (int v = 0; v < V; ++v) store(to + v * LANES, inside(load(from + v * LANES), v));
        else
            for (int64_t x = 0; x < V * LANES; ++x) to[x] = x < t.count ? from[x * c.bias_column] : 0;
    }
    return {logits, nullptr};
}

// Add the local bias to the window's logits; those of positions outside the map become ABSENT.
template <int V>
inline void finish_window_logits(const AttentionCall& c, const Plan& p, const TilePlace& t, const WindowRows& map,
                                 float* logits) {
    const float* bias = c.local_bias + t.h * p.area;
    for (int64_t dy = 0; dy < c.window; ++dy)
        for (int64_t dx = 0; dx < c.window; ++dx)
            for (int v = 0; v < V; ++v) {
                float* to = logits + (dy * c.window + dx) * TILE + v * LANES;
                const Vec column = lane_index() + float(t.x + v * LANES + dx - p.radius);
                const Vec present = load(to) + bias[dy * c.window + dx];
                const bool row = map.rows[dy] != nullptr;
                const auto inside = (column >= 0.0f) & (column < (row ? float(c.width) : 0.0f));
                store(to, inside ? present : splat(ABSENT));
            }
}

// The logits (area + P, TILE) of a tile: window first, then pooled keys.
template <int V>
inline void tile_logits(const AttentionCall& c, const Plan& p, const TilePlace& t, const WindowRows& keys,
                        const Packed& pooled_keys, const BiasScratch& bias, const float* scaled, float* logits) {
    window_products<V>(p, c.window, c.dim, keys, t.x, scaled, logits);
    finish_window_logits<V>(c, p, t, keys, logits);
    float* pooled = logits + p.area * TILE;
    products<V>(pooled_keys, scaled, pooled, pool_bias<V>(c, t, bias, pooled));
}

// Positional attention (area, TILE): unit queries times learned tokens, plus token bias.
template <int V>
inline void positional_weights(const AttentionCall& c, const Plan& p, int64_t h, const Packed& tokens,
                               const float* unit, float* out) {
    products<V>(tokens, unit, out);
    for (int64_t j = 0; j < p.area; ++j)
        for (int v = 0; v < V; ++v) {
            float* to = out + j * TILE + v * LANES;
            store(to, load(to) + c.token_bias[h * p.area + j]);
        }
}

// tokens (heads, dim, area) of one head as packed rows (area, dim).
inline void pack_tokens(const AttentionCall& c, const Plan& p, int64_t h, float* rows, float* out) {
    const float* from = c.tokens + h * c.dim * p.area;
    for (int64_t j = 0; j < p.area; ++j)
        for (int64_t d = 0; d < c.dim; ++d) rows[j * c.dim + d] = from[d * p.area + j];
    pack(rows, c.dim, p.area, c.dim, out);
}

// The rows of a ring buffer in the window of query row y; row i of the map is at slot i % window.
inline WindowRows reach(const AttentionCall& c, const Plan& p, const float* ring, int64_t y) {
    WindowRows map;
    for (int64_t dy = 0; dy < c.window; ++dy) {
        const int64_t row = y + dy - p.radius;
        map.rows[dy] = row < 0 || row >= c.height ? nullptr : ring + row % c.window * p.map_row;
    }
    return map;
}
