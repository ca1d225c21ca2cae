// Aggregated attention, forward: one pass over the queries that writes only the output and the log-sum-exp.

struct ForwardScratch {
    float *keys, *values;                // (window, dim, row) ring buffers of transposed rows
    float *pooled_keys, *pooled_values;  // packed; (P, dim)
    float *rows, *tokens;                // (P or area, dim) before packing; packed tokens
    float *log_length;                   // (row)
    float *unit, *scaled, *logits, *positional, *out;  // (..., TILE)
    BiasScratch bias;
    int64_t size;

    ForwardScratch(const AttentionCall& c, const Plan& p, float* base) {
        Arena arena{base};
        keys = arena.take(c.window * p.map_row);
        values = arena.take(c.window * p.map_row);
        pooled_keys = arena.take(c.pooled * p.dim);
        pooled_values = arena.take(c.pooled * p.dim);
        rows = arena.take((c.pooled > p.area ? c.pooled : p.area) * p.dim);
        tokens = arena.take(p.area * p.dim);
        log_length = arena.take(p.row);
        unit = arena.take(p.dim * TILE);
        scaled = arena.take(p.dim * TILE);
        logits = arena.take((p.area + c.pooled) * TILE);
        positional = arena.take(p.area * TILE);
        out = arena.take(p.dim * TILE);
        bias = BiasScratch(c, arena, false);
        size = arena.used;
    }
};

// Turn logits (count, TILE) into probabilities, and write the log-sum-exp of every column.
template <int V>
inline void softmax(float* logits, int64_t count, float* lse) {
    for (int v = 0; v < V; ++v) {
        float* column = logits + v * LANES;
        Vec top = load(column);
        for (int64_t i = 1; i < count; ++i) top = largest(top, load(column + i * TILE));
        Vec total = {};
        for (int64_t i = 0; i < count; ++i) {
            const Vec e = exponential(load(column + i * TILE) - top);
            store(column + i * TILE, e);
            total += e;
        }
        const Vec share = 1.0f / total;
        for (int64_t i = 0; i < count; ++i) store(column + i * TILE, load(column + i * TILE) * share);
        store(lse + v * LANES, top + logarithm(total));
    }
}

template <class T, int V>
inline void forward_tile(const AttentionCall& c, const Plan& p, const ForwardScratch& s, int64_t b, const TilePlace& t) {
    const T* queries = static_cast<const T*>(c.q.data) + b * c.q.batch + t.y * c.q.row + t.x * c.q.column + t.h * c.q.head;
    load_queries<T, V>(c, queries, t, s.log_length, s.unit, s.scaled, nullptr);
    tile_logits<V>(c, p, t, reach(c, p, s.keys, t.y), Packed{s.pooled_keys, c.pooled, c.dim}, s.bias, s.scaled, s.logits);
    float lse[TILE] = {};
    softmax<V>(s.logits, p.area + c.pooled, lse);
    positional_weights<V>(c, p, t.h, Packed{s.tokens, p.area, c.dim}, s.unit, s.positional);
    for (int64_t j = 0; j < p.area; ++j)
        for (int v = 0; v < V; ++v) {
            float* to = s.positional + j * TILE + v * LANES;
            store(to, load(to) + load(s.logits + j * TILE + v * LANES));
        }
    weighted_sums<V>(p, c.window, s.pooled_values, c.pooled, s.logits + p.area * TILE, reach(c, p, s.values, t.y), t.x,
                     s.positional, s.out);
    T* out = static_cast<T*>(c.out.data) + b * c.out.batch + t.y * c.out.row + t.x * c.out.column + t.h * c.out.head;
    store_turned(s.out, TILE, t.count, c.dim, out, c.out.column);
    float* to = c.lse + ((b * c.height + t.y) * c.width + t.x) * c.heads + t.h;
    for (int64_t x = 0; x < t.count; ++x) to[x * c.heads] = lse[x];
}

// Load row y of keys and values into their ring buffers, if the map has such a row.
template <class T>
inline void forward_load(const AttentionCall& c, const Plan& p, const ForwardScratch& s, int64_t b, int64_t h, int64_t y) {
    if (y < 0 || y >= c.height || !c.window) return;
    float* keys = s.keys + y % c.window * p.map_row;
    load_row<T>(c, p, c.k, b, h, y, keys);
    normalise_columns(keys, p.row, c.dim, p.row, nullptr);
    load_row<T>(c, p, c.v, b, h, y, s.values + y % c.window * p.map_row);
}

// Rows first ... last - 1 of one head of one image.
template <class T>
inline void forward_band(const AttentionCall& c, const Plan& p, const ForwardScratch& s, int64_t b, int64_t h,
                         int64_t first, int64_t last) {
    load_pooled<T>(c, p, c.k_pool, b, h, true, s.rows, nullptr);
    pack(s.rows, p.dim, c.pooled, c.dim, s.pooled_keys);
    load_pooled<T>(c, p, c.v_pool, b, h, false, s.pooled_values, nullptr);
    for (int64_t y = first - p.radius; y < first + p.radius; ++y) forward_load<T>(c, p, s, b, h, y);
    for (int64_t y = first; y < last; ++y) {
        forward_load<T>(c, p, s, b, h, y + p.radius);
        row_log_length(c, y, s.log_length, round_up(c.width, TILE));
        if (c.resize.table_columns) resize_rows(c, s.bias, h, y);
        for (int64_t x = 0; x < c.width; x += TILE) {
            const TilePlace t{h, y, x, c.width - x < TILE ? c.width - x : TILE};
            if (t.count > LANES)
                forward_tile<T, 2>(c, p, s, b, t);
            else
                forward_tile<T, 1>(c, p, s, b, t);
        }
    }
}

template <class T>
void attention_forward_work(const AttentionCall& c, int64_t thread) {
    const Plan p(c);
    const int64_t size = ForwardScratch(c, p, nullptr).size;
    const ForwardScratch s(c, p, c.workspace + thread * size);
    const int64_t items = c.heads * c.bands * c.batch;
    zero(s.keys, c.window * p.map_row);
    zero(s.values, c.window * p.map_row);
    int64_t head = -1;  // whose tokens are packed
    // Images vary fastest: the bias of a head's band stays in the cache.
    for (int64_t i = thread * items / c.threads; i < (thread + 1) * items / c.threads; ++i) {
        const int64_t b = i % c.batch, band = i / c.batch % c.bands, h = i / c.batch / c.bands;
        if (h != head) pack_tokens(c, p, head = h, s.rows, s.tokens);
        forward_band<T>(c, p, s, b, h, band * c.height / c.bands, (band + 1) * c.height / c.bands);
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
