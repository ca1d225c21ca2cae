// Aggregated attention, forward: one pass over the queries that writes only the output and the log-sum-exp.
//
// A group of heads is computed row by row, because the heads of a position are neighbours in memory: every cache line of
// the maps is read once.

// What is kept of one head: ring buffers (window, dim, row) of transposed rows of the maps, and the pooled maps.
struct Head {
    float *keys, *values;
    float *pooled_keys, *pooled_values;  // packed; (P, dim)
    float* tokens;                       // packed
    int64_t size;

    Head(const AttentionCall& c, const Plan& p, float* base) {
        Arena arena{base};
        keys = arena.take(c.window * p.map_row);
        values = arena.take(c.window * p.map_row);
        pooled_keys = arena.take(c.pooled * p.dim);
        pooled_values = arena.take(c.pooled * p.dim);
        tokens = arena.take(p.area * p.dim);
        size = arena.used;
    }
};

// Into how many groups the heads are cut: what is kept of a group fits the second-level cache, and every thread gets
// an equal share.
inline int64_t head_groups(const AttentionCall& c, int64_t head_size) {
    const int64_t most = 64 * 1024 / head_size, items = c.batch * c.bands;
    int64_t groups = most > 1 ? (c.heads + most - 1) / most : c.heads;
    while (groups < c.heads && items * groups % c.threads && items * groups < 8 * c.threads) ++groups;
    return groups;
}

struct ForwardScratch {
    float* heads;                  // of a group
    float *rows, *inverses;        // (heads, P, dim) or (area, dim) before packing; (heads, P)
    float* log_length;             // (row)
    float *unit, *scaled, *logits, *positional, *out;  // of a tile: (..., TILE)
    BiasScratch bias;
    int64_t head_size, groups, size;

    ForwardScratch(const AttentionCall& c, const Plan& p, float* base) {
        Arena arena{base};
        head_size = Head(c, p, nullptr).size;
        groups = head_groups(c, head_size);
        const int64_t count = (c.heads + groups - 1) / groups;
        heads = arena.take(count * head_size);
        rows = arena.take((count * c.pooled > p.area ? count * c.pooled : p.area) * p.dim);
        inverses = arena.take(count * c.pooled);
        log_length = arena.take(p.row);
        unit = arena.take(p.dim * TILE);
        scaled = arena.take(p.dim * TILE);
        logits = arena.take((p.area + c.pooled) * TILE);
        positional = arena.take(p.area * TILE);
        out = arena.take(p.dim * TILE);
        bias = BiasScratch(c, arena, false);
        size = arena.used;
    }
    Head head(const AttentionCall& c, const Plan& p, int64_t i) const { return Head(c, p, heads + i * head_size); }
};

// The sum of the exponentials of a column's logits, and its log.
template <int V>
struct Total {
    Vec sum[V], log[V];
};

// Turn logits (count, TILE) into their exponentials, relative to the largest one.
template <int V>
inline Total<V> exponentials(float* logits, int64_t count) {
    Total<V> total;
    for (int v = 0; v < V; ++v) {
        float* column = logits + v * LANES;
        Vec top = load(column);
        for (int64_t i = 1; i < count; ++i) top = largest(top, load(column + i * TILE));
        Vec sum = {};
        for (int64_t i = 0; i < count; ++i) {
            const Vec e = exponential(load(column + i * TILE) - top);
            store(column + i * TILE, e);
            sum += e;
        }
        total.sum[v] = sum;
        total.log[v] = top + logarithm(sum);
    }
    return total;
}

template <class T, int V>
inline void forward_tile(const AttentionCall& c, const Plan& p, const ForwardScratch& s, const Head& head, int64_t b,
                         const TilePlace& t) {
    const T* queries = static_cast<const T*>(c.q.data) + b * c.q.batch + t.y * c.q.row + t.x * c.q.column + t.h * c.q.head;
    load_queries<T, V>(c, queries, t, s.log_length, s.unit, s.scaled, nullptr);
    tile_logits<V>(c, p, t, reach(c, p, head.keys, t.y), Packed{head.pooled_keys, c.pooled, c.dim}, s.bias, s.scaled,
                   s.logits);
    const Total<V> total = exponentials<V>(s.logits, p.area + c.pooled);
    positional_weights<V>(c, p, t.h, Packed{head.tokens, p.area, c.dim}, s.unit, s.positional);
    for (int64_t j = 0; j < p.area; ++j)
        for (int v = 0; v < V; ++v) {
            float* to = s.positional + j * TILE + v * LANES;
            store(to, load(to) * total.sum[v] + load(s.logits + j * TILE + v * LANES));
        }
    weighted_sums<V>(p, c.window, head.pooled_values, c.pooled, s.logits + p.area * TILE, reach(c, p, head.values, t.y),
                     t.x, s.positional, s.out);
    float lse[TILE];
    for (int v = 0; v < V; ++v) {
        const Vec share = 1.0f / total.sum[v];
        for (int64_t d = 0; d < c.dim; ++d) {
            float* to = s.out + d * TILE + v * LANES;
            store(to, load(to) * share);
        }
        store(lse + v * LANES, total.log[v]);
    }
    T* out = static_cast<T*>(c.out.data) + b * c.out.batch + t.y * c.out.row + t.x * c.out.column + t.h * c.out.head;
    store_turned(s.out, TILE, t.count, c.dim, out, c.out.column);
    float* to = c.lse + ((b * c.height + t.y) * c.width + t.x) * c.heads + t.h;
    for (int64_t x = 0; x < t.count; ++x) to[x * c.heads] = lse[x];
}

// One band of work: rows first_row ... last_row - 1 of heads first_head ... last_head - 1 of one image.
struct GroupBand {
    int64_t b, first_head, last_head, first_row, last_row;
    int64_t heads() const { return last_head - first_head; }
};

// Load row y of keys and values into the heads' ring buffers, if the map has such a row.
template <class T>
inline void forward_load(const AttentionCall& c, const Plan& p, const ForwardScratch& s, const GroupBand& band, int64_t y) {
    if (y < 0 || y >= c.height || !c.window) return;
    for (int64_t i = 0; i < band.heads(); ++i) {
        const Head head = s.head(c, p, i);
        float* keys = head.keys + y % c.window * p.map_row;
        load_row<T>(c, p, c.k, band.b, band.first_head + i, y, keys);
        normalise_columns(keys, p.row, c.dim, p.row, nullptr);
        load_row<T>(c, p, c.v, band.b, band.first_head + i, y, head.values + y % c.window * p.map_row);
    }
}

template <class T>
inline void forward_pooled(const AttentionCall& c, const Plan& p, const ForwardScratch& s, const GroupBand& band) {
    const int64_t n = band.heads(), size = c.pooled * p.dim;
    load_pooled<T>(c, p, c.k_pool, band.b, band.first_head, n, s.rows, size, s.inverses);
    for (int64_t i = 0; i < n; ++i) pack(s.rows + i * size, p.dim, c.pooled, c.dim, s.head(c, p, i).pooled_keys);
    load_pooled<T>(c, p, c.v_pool, band.b, band.first_head, n, s.head(c, p, 0).pooled_values, s.head_size, nullptr);
}

template <class T>
inline void forward_row(const AttentionCall& c, const Plan& p, const ForwardScratch& s, const GroupBand& band, int64_t y) {
    row_log_length(c, y, s.log_length, round_up(c.width, TILE));
    for (int64_t i = 0; i < band.heads(); ++i) {
        const Head head = s.head(c, p, i);
        const int64_t h = band.first_head + i;
        if (c.resize.table_columns) resize_rows(c, s.bias, h, y);
        for (int64_t x = 0; x < c.width; x += TILE) {
            const TilePlace t{h, y, x, c.width - x < TILE ? c.width - x : TILE};
            if (t.count > LANES)
                forward_tile<T, 2>(c, p, s, head, band.b, t);
            else
                forward_tile<T, 1>(c, p, s, head, band.b, t);
        }
    }
}

template <class T>
inline void forward_band(const AttentionCall& c, const Plan& p, const ForwardScratch& s, const GroupBand& band) {
    forward_pooled<T>(c, p, s, band);
    for (int64_t y = band.first_row - p.radius; y < band.first_row + p.radius; ++y) forward_load<T>(c, p, s, band, y);
    for (int64_t y = band.first_row; y < band.last_row; ++y) {
        forward_load<T>(c, p, s, band, y + p.radius);
        forward_row<T>(c, p, s, band, y);
    }
}

template <class T>
void attention_forward_work(const AttentionCall& c, int64_t thread) {
    const Plan p(c);
    const int64_t size = ForwardScratch(c, p, nullptr).size;
    const ForwardScratch s(c, p, c.workspace + thread * size);
    const int64_t items = s.groups * c.bands * c.batch;
    zero(s.heads, (c.heads + s.groups - 1) / s.groups * s.head_size);
    int64_t group = -1;  // whose tokens are packed
    // Images vary fastest: the bias of a group's band stays in the cache.
    for (int64_t i = thread * items / c.threads; i < (thread + 1) * items / c.threads; ++i) {
        const int64_t b = i % c.batch, band = i / c.batch % c.bands, g = i / c.batch / c.bands;
        const int64_t first = g * c.heads / s.groups, last = (g + 1) * c.heads / s.groups;
        if (g != group)
            for (int64_t h = first; h < last; ++h) pack_tokens(c, p, h, s.rows, s.head(c, p, h - first).tokens);
        group = g;
        forward_band<T>(c, p, s, {b, first, last, band * c.height / c.bands, (band + 1) * c.height / c.bands});
    }
}

int64_t attention_forward_workspace(const AttentionCall& c) {
    return c.threads * ForwardScratch(c, Plan(c), nullptr).size;
}

void attention_forward(const AttentionCall& c, int64_t thread) {
    if (c.half)
        attention_forward_work<bfloat16>(c, thread);
    else
        attention_forward_work<float>(c, thread);
}
