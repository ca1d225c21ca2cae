// Aggregated attention, backward: logits are recomputed, probabilities follow from the log-sum-exp.
//
// For a query row its own gradient and its share of the gradients of pooled keys are computed at once. Its share of the
// window keys' gradients is kept as long as a key row can need it: key row y gathers from the query rows around it once
// query row y + radius has been processed. Nothing is scattered, so no two threads write to the same place.

template <int N>
struct Places {
    float** all[N];
};

struct BackwardScratch {
    // Ring buffers of rows, slot y % window: transposed maps (window, dim, row) ...
    float *keys, *values, *queries, *grads;
    float* key_inverses;              // ... (window, row) ...
    float *logit_grads, *weights;     // ... and (window, area, row).
    float *pooled_keys, *pooled_values, *pooled_inverses;  // (P, dim) and (P)
    float *packed_keys, *packed_values;
    float *pooled_key_grads, *pooled_value_grads;  // (P, dim)
    float *tokens, *packed_tokens;                 // (area, dim)
    float* log_length;                             // (row)
    float *unit, *scaled, *grad, *inverses;        // of a tile: (dim, TILE), (TILE)
    float *probabilities, *probability_grads;      // (area + P, TILE); the second later holds gradients of logits
    float *positional, *window_grads;              // (area, TILE)
    float *sum_a, *sum_b;                          // (dim, TILE)
    float *rows;                                   // (TILE, dim)
    BiasScratch bias;
    float* totals;                                 // sums of a head, each of them LANES wide
    int64_t ring_rows, total_count, size;

    BackwardScratch(const AttentionCall& c, const Plan& p, float* base) {
        Arena arena{base};
        for (float** ring : Places<4>{&keys, &values, &queries, &grads}.all) *ring = arena.take(c.window * p.map_row);
        ring_rows = p.area * p.row;
        for (float** ring : Places<2>{&logit_grads, &weights}.all) *ring = arena.take(c.window * ring_rows);
        key_inverses = arena.take(c.window * p.row);
        for (float** pooled : Places<6>{&pooled_keys, &pooled_values, &packed_keys, &packed_values, &pooled_key_grads,
                                        &pooled_value_grads}.all)
            *pooled = arena.take(c.pooled * p.dim);
        pooled_inverses = arena.take(c.pooled);
        tokens = arena.take(p.area * p.dim);
        packed_tokens = arena.take(p.area * p.dim);
        log_length = arena.take(p.row);
        for (float** tile : Places<5>{&unit, &scaled, &grad, &sum_a, &sum_b}.all) *tile = arena.take(p.dim * TILE);
        inverses = arena.take(TILE);
        for (float** tile : Places<2>{&probabilities, &probability_grads}.all) *tile = arena.take((p.area + c.pooled) * TILE);
        for (float** tile : Places<2>{&positional, &window_grads}.all) *tile = arena.take(p.area * TILE);
        rows = arena.take(TILE * p.dim);
        bias = BiasScratch(c, arena, true);
        total_count = 1 + c.dim + 2 * p.area + p.area * c.dim;
        totals = arena.take(total_count * LANES);
        size = arena.used;
    }
};

// acc[i][d] += sum over positions x of weights[i][x] * rows[x][d]
template <int N>
inline void group_outer(const float* weights, const float* rows, int64_t count, int64_t dim, float* acc) {
    for (int64_t d = 0; d < dim; d += SIDE) {
        Tile total[N];
        for (int i = 0; i < N; ++i) total[i] = read(acc + i * dim + d);
        for (int64_t x = 0; x < count; ++x) {
            const Tile row = read(rows + x * dim + d);
            for (int i = 0; i < N; ++i) total[i] += weights[i * TILE + x] * row;
        }
        for (int i = 0; i < N; ++i) write(acc + i * dim + d, total[i]);
    }
}

inline void add_outer(const float* weights, int64_t n, const float* rows, int64_t count, int64_t dim, float* acc) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) group_outer<8>(weights + i * TILE, rows, count, dim, acc + i * dim);
    for (; i < n; ++i) group_outer<1>(weights + i * TILE, rows, count, dim, acc + i * dim);
}

// Gradient of `x / |x|` with respect to x, for every column: (g - unit (unit . g)) / |x|, or g / EPS below EPS.
template <int V>
inline void normalise_backward(const float* unit, int64_t unit_ld, const float* inverses, int64_t dim, float* grad) {
    for (int v = 0; v < V; ++v) {
        const Vec inverse = load(inverses + v * LANES);
        Vec along = {};
        for (int64_t d = 0; d < dim; ++d) along += load(unit + d * unit_ld + v * LANES) * load(grad + d * TILE + v * LANES);
        along = inverse < 1.0f / EPS ? along : Vec{};
        for (int64_t d = 0; d < dim; ++d) {
            float* to = grad + d * TILE + v * LANES;
            store(to, inverse * (load(to) - load(unit + d * unit_ld + v * LANES) * along));
        }
    }
}

// A transposed tile of a map's rows, with zeros in columns that are not in the map.
template <class T>
inline void load_tile(const T* source, int64_t stride, int64_t count, int64_t dim, float* out) {
    load_turned(source, stride, count, dim, out, TILE);
    for (int64_t d = 0; d < dim; ++d)
        for (int64_t x = count; x < TILE; ++x) out[d * TILE + x] = 0;
}

template <class T>
inline T* at(const Map& map, int64_t b, const TilePlace& t) {
    return static_cast<T*>(map.data) + b * map.batch + t.y * map.row + t.x * map.column + t.h * map.head;
}

// Turn logits (count, TILE) into probabilities with the log-sum-exp that forward saved.
template <int V>
inline void rebuild_probabilities(const AttentionCall& c, int64_t b, const TilePlace& t, int64_t count, float* logits) {
    float lse[TILE];
    const float* from = c.lse + ((b * c.height + t.y) * c.width + t.x) * c.heads + t.h;
    for (int64_t x = 0; x < TILE; ++x) lse[x] = x < t.count ? from[x * c.heads] : -ABSENT;
    for (int64_t i = 0; i < count; ++i)
        for (int v = 0; v < V; ++v) {
            float* to = logits + i * TILE + v * LANES;
            store(to, exponential(load(to) - load(lse + v * LANES)));
        }
}

// Turn gradients of probabilities into gradients of logits: A (dA - sum A dA).
template <int V>
inline void softmax_backward(const float* probabilities, int64_t count, float* grads) {
    for (int v = 0; v < V; ++v) {
        Vec mean = {};
        for (int64_t i = 0; i < count; ++i)
            mean += load(probabilities + i * TILE + v * LANES) * load(grads + i * TILE + v * LANES);
        for (int64_t i = 0; i < count; ++i) {
            float* to = grads + i * TILE + v * LANES;
            store(to, load(probabilities + i * TILE + v * LANES) * (load(to) - mean));
        }
    }
}

// Copy a tile (n, TILE) to columns x ... of a row of a ring buffer.
template <int V>
inline void keep(const float* tile, int64_t n, float* row, int64_t ld) {
    for (int64_t i = 0; i < n; ++i)
        for (int v = 0; v < V; ++v) store(row + i * ld + v * LANES, load(tile + i * TILE + v * LANES));
}

template <int V>
inline void add_total(float* total, const float* numbers) {
    for (int v = 0; v < V; ++v) store(total, load(total) + load(numbers + v * LANES));
}

// Keep of a tile what the gradients of the keys around it need.
template <int V>
inline void keep_tile(const AttentionCall& c, const Plan& p, const BackwardScratch& s, const TilePlace& t) {
    const int64_t slot = t.y % c.window, column = p.radius + t.x;
    keep<V>(s.scaled, c.dim, s.queries + slot * p.map_row + column, p.row);
    keep<V>(s.grad, c.dim, s.grads + slot * p.map_row + column, p.row);
    keep<V>(s.probability_grads, p.area, s.logit_grads + slot * s.ring_rows + column, p.row);
    keep<V>(s.positional, p.area, s.weights + slot * s.ring_rows + column, p.row);
}

// Gradient of a tile's queries from the logits' gradients; also adds to the totals of scale and embedding.
template <int V>
inline void query_grads(const AttentionCall& c, const Plan& p, const BackwardScratch& s, const TilePlace& t) {
    float* scaled_grad = s.sum_a;
    weighted_sums<V>(p, c.window, s.pooled_keys, c.pooled, s.probability_grads + p.area * TILE,
                     reach(c, p, s.keys, t.y), t.x, s.probability_grads, scaled_grad);
    WindowRows none = {};
    weighted_sums<V>(p, c.window, s.tokens, p.area, s.window_grads, none, 0, nullptr, s.sum_b);
    float* total = s.totals;
    for (int v = 0; v < V; ++v) {
        const Vec log_length = load(s.log_length + t.x + v * LANES);
        const Vec factor = c.scale[t.h] * log_length;
        Vec along = {};
        for (int64_t d = 0; d < c.dim; ++d) {
            const int64_t i = d * TILE + v * LANES;
            const Vec g = load(scaled_grad + i);
            along += g * (load(s.unit + i) + c.query_embedding[t.h * c.dim + d]);
            store(total + (1 + d) * LANES, load(total + (1 + d) * LANES) + g * factor);
            store(scaled_grad + i, g * factor + load(s.sum_b + i));
        }
        // A column beyond the map has gradient 0, but its log length may be log(0).
        const Vec there = lane_index() + float(v * LANES) < float(t.count) ? along * log_length : Vec{};
        store(total, load(total) + there);
    }
    normalise_backward<V>(s.unit, TILE, s.inverses, c.dim, scaled_grad);
}

// Add a tile's share to the totals of local bias, token bias and tokens.
template <int V>
inline void window_totals(const AttentionCall& c, const Plan& p, const BackwardScratch& s) {
    float* local_bias = s.totals + (1 + c.dim) * LANES;
    float* token_bias = local_bias + p.area * LANES;
    float* tokens = token_bias + p.area * LANES;
    for (int64_t j = 0; j < p.area; ++j) {
        add_total<V>(local_bias + j * LANES, s.probability_grads + j * TILE);
        add_total<V>(token_bias + j * LANES, s.window_grads + j * TILE);
        Vec w[V];
        for (int v = 0; v < V; ++v) w[v] = load(s.window_grads + j * TILE + v * LANES);
        for (int64_t d = 0; d < c.dim; ++d) {
            float* total = tokens + (j * c.dim + d) * LANES;
            Vec sum = load(total);
            for (int v = 0; v < V; ++v) sum += w[v] * load(s.unit + d * TILE + v * LANES);
            store(total, sum);
        }
    }
}

// A band: its rows, and the place of its share of the position bias's gradient.
struct Band {
    int64_t b, h, first, last;
    bool start;  // whether it writes there, or adds
    float* pool_bias;
};

// Add a tile's logit gradients to those of the position bias, or initialise them.
template <int V>
inline void pool_bias_grads(const AttentionBackwardCall& g, const Plan& p, const BackwardScratch& s, const Band& band,
                            const TilePlace& t) {
    const float* grads = s.probability_grads + p.area * TILE;
    if (g.forward.resize.table_columns) {
        for (int v = 0; v < V; ++v) add_resized_grads(g.forward, s.bias, t.x + v * LANES, grads + v * LANES);
        return;
    }
    float* out = band.pool_bias + t.y * g.grad_bias_row + t.x;
    const bool whole = t.count == V * LANES || g.grad_bias_thread;  // a thread's own copy is followed by spare room
    const Inside<V> inside(t);
    for (int64_t i = 0; i < g.forward.pooled; ++i, grads += TILE) {
        float* to = out + g.grad_bias_keys[i];
        if (whole)
            for (int v = 0; v < V; ++v) {
                const Vec added = inside(load(grads + v * LANES), v);
                store(to + v * LANES, band.start ? added : load(to + v * LANES) + added);
            }
        else
            for (int64_t x = 0; x < t.count; ++x) to[x] = band.start ? grads[x] : to[x] + grads[x];
    }
}

template <class T, int V>
inline void backward_tile(const AttentionBackwardCall& g, const Plan& p, const BackwardScratch& s, const Band& band,
                          const TilePlace& t) {
    const AttentionCall& c = g.forward;
    const int64_t n = p.area + c.pooled;
    load_queries<T, V>(c, at<T>(c.q, band.b, t), t, s.log_length, s.unit, s.scaled, s.inverses);
    load_tile(at<T>(g.grad, band.b, t), g.grad.column, t.count, c.dim, s.grad);
    tile_logits<V>(c, p, t, reach(c, p, s.keys, t.y), Packed{s.packed_keys, c.pooled, c.dim}, s.bias, s.scaled,
                   s.probabilities);
    rebuild_probabilities<V>(c, band.b, t, n, s.probabilities);

    zero(s.probability_grads, p.area * TILE);  // of window rows outside the map
    window_products<V>(p, c.window, c.dim, reach(c, p, s.values, t.y), t.x, s.grad, s.probability_grads);
    products<V>(Packed{s.packed_values, c.pooled, c.dim}, s.grad, s.probability_grads + p.area * TILE);
    __builtin_memcpy(s.window_grads, s.probability_grads, p.area * TILE * sizeof(float));
    softmax_backward<V>(s.probabilities, n, s.probability_grads);
    positional_weights<V>(c, p, t.h, Packed{s.packed_tokens, p.area, c.dim}, s.unit, s.positional);
    for (int64_t i = 0; i < p.area * TILE; i += LANES) store(s.positional + i, load(s.positional + i) + load(s.probabilities + i));

    if (c.window) keep_tile<V>(c, p, s, t);
    if (t.y < band.first || t.y >= band.last) return;  // a neighbour's row, needed for our keys alone

    query_grads<V>(c, p, s, t);
    store_turned(s.sum_a, TILE, t.count, c.dim, at<T>(g.grad_q, band.b, t), g.grad_q.column);
    window_totals<V>(c, p, s);
    pool_bias_grads<V>(g, p, s, band, t);
    store_turned(s.scaled, TILE, t.count, p.dim, s.rows, p.dim);
    add_outer(s.probability_grads + p.area * TILE, c.pooled, s.rows, t.count, p.dim, s.pooled_key_grads);
    store_turned(s.grad, TILE, t.count, p.dim, s.rows, p.dim);
    add_outer(s.probabilities + p.area * TILE, c.pooled, s.rows, t.count, p.dim, s.pooled_value_grads);
}

// out[d] = sum over the queries that have key row y at window position j of weights[j] * map[d], both at the query.
template <int V>
inline void gathered_sums(const AttentionCall& c, const Plan& p, const float* weights, const float* map, int64_t y,
                          int64_t x, float* out) {
    constexpr int64_t N = SUMS<V>;
    for (int64_t d = 0; d < p.dim; d += N) {
        Vec acc[N][V] = {};
        for (int64_t dy = 0; dy < c.window; ++dy) {
            const int64_t query = y + p.radius - dy;
            if (query < 0 || query >= c.height) continue;
            for (int64_t dx = 0; dx < c.window; ++dx) {
                const int64_t column = x + 2 * p.radius - dx;
                const float* w = weights + (query % c.window * p.area + dy * c.window + dx) * p.row + column;
                const float* numbers = map + query % c.window * p.map_row + d * p.row + column;
                for (int v = 0; v < V; ++v) {
                    const Vec weight = load(w + v * LANES);
                    for (int k = 0; k < N; ++k) acc[k][v] += weight * load(numbers + k * p.row + v * LANES);
                }
            }
        }
        for (int k = 0; k < N; ++k)
            for (int v = 0; v < V; ++v) store(out + (d + k) * TILE + v * LANES, acc[k][v]);
    }
}

template <class T, int V>
inline void key_tile(const AttentionBackwardCall& g, const Plan& p, const BackwardScratch& s, int64_t b, const TilePlace& t) {
    const AttentionCall& c = g.forward;
    const int64_t slot = t.y % c.window, column = p.radius + t.x;
    gathered_sums<V>(c, p, s.logit_grads, s.queries, t.y, t.x, s.sum_a);
    normalise_backward<V>(s.keys + slot * p.map_row + column, p.row, s.key_inverses + slot * p.row + column, c.dim, s.sum_a);
    store_turned(s.sum_a, TILE, t.count, c.dim, at<T>(g.grad_k, b, t), g.grad_k.column);
    gathered_sums<V>(c, p, s.weights, s.grads, t.y, t.x, s.sum_b);
    store_turned(s.sum_b, TILE, t.count, c.dim, at<T>(g.grad_v, b, t), g.grad_v.column);
}

template <class T>
inline void backward_load(const AttentionCall& c, const Plan& p, const BackwardScratch& s, int64_t b, int64_t h, int64_t y) {
    if (y < 0 || y >= c.height || !c.window) return;
    const int64_t slot = y % c.window;
    load_row<T>(c, p, c.k, b, h, y, s.keys + slot * p.map_row);
    normalise_columns(s.keys + slot * p.map_row, p.row, c.dim, p.row, s.key_inverses + slot * p.row);
    load_row<T>(c, p, c.v, b, h, y, s.values + slot * p.map_row);
}

template <class T, class Body2, class Body1>
inline void each_tile(const AttentionCall& c, int64_t h, int64_t y, Body2 two, Body1 one) {
    for (int64_t x = 0; x < c.width; x += TILE) {
        const TilePlace t{h, y, x, c.width - x < TILE ? c.width - x : TILE};
        if (t.count > LANES)
            two(t);
        else
            one(t);
    }
}

// Write a band's gradients of pooled keys and values.
inline void store_pooled_grads(const AttentionBackwardCall& g, const Plan& p, const BackwardScratch& s, int64_t at) {
    const AttentionCall& c = g.forward;
    for (int64_t i = 0; i < c.pooled; ++i) {
        const float *unit = s.pooled_keys + i * p.dim, *grad = s.pooled_key_grads + i * p.dim;
        const float inverse = s.pooled_inverses[i];
        float along = 0;
        for (int64_t d = 0; d < c.dim; ++d) along += unit[d] * grad[d];
        if (inverse >= 1.0f / EPS) along = 0;
        float *k = g.grad_k_pool + (at * c.pooled + i) * c.dim, *v = g.grad_v_pool + (at * c.pooled + i) * c.dim;
        for (int64_t d = 0; d < c.dim; ++d) {
            k[d] = inverse * (grad[d] - unit[d] * along);
            v[d] = s.pooled_value_grads[i * p.dim + d];
        }
    }
}

template <class T>
inline void backward_band(const AttentionBackwardCall& g, const Plan& p, const BackwardScratch& s, const Band& band) {
    const AttentionCall& c = g.forward;
    load_pooled<T>(c, p, c.k_pool, band.b, band.h, 1, s.pooled_keys, 0, s.pooled_inverses);
    load_pooled<T>(c, p, c.v_pool, band.b, band.h, 1, s.pooled_values, 0, nullptr);
    pack(s.pooled_keys, p.dim, c.pooled, c.dim, s.packed_keys);
    pack(s.pooled_values, p.dim, c.pooled, c.dim, s.packed_values);
    zero(s.pooled_key_grads, c.pooled * p.dim);
    zero(s.pooled_value_grads, c.pooled * p.dim);
    for (int64_t y = band.first - 2 * p.radius; y < band.first; ++y) backward_load<T>(c, p, s, band.b, band.h, y);
    for (int64_t y = band.first - p.radius; y < band.last + p.radius; ++y) {
        backward_load<T>(c, p, s, band.b, band.h, y + p.radius);
        if (y >= 0 && y < c.height) {
            row_log_length(c, y, s.log_length, round_up(c.width, TILE));
            if (c.resize.table_columns) resize_rows(c, s.bias, band.h, y);
            each_tile<T>(
                c, band.h, y, [&](const TilePlace& t) { backward_tile<T, 2>(g, p, s, band, t); },
                [&](const TilePlace& t) { backward_tile<T, 1>(g, p, s, band, t); });
            if (c.resize.table_columns && y >= band.first && y < band.last)
                flush_resized_grads(c, s.bias, y, band.pool_bias);
        }
        if (c.window && y - p.radius >= band.first && y - p.radius < band.last)
            each_tile<T>(
                c, band.h, y - p.radius, [&](const TilePlace& t) { key_tile<T, 2>(g, p, s, band.b, t); },
                [&](const TilePlace& t) { key_tile<T, 1>(g, p, s, band.b, t); });
    }
}

// Sum the lanes of a head's totals and reset them.
inline void flush_totals(const AttentionBackwardCall& g, const BackwardScratch& s, int64_t thread, int64_t head) {
    float* out = g.sums + (thread * g.forward.heads + head) * s.total_count;
    for (int64_t i = 0; i < s.total_count; ++i) out[i] = sum(load(s.totals + i * LANES));
    zero(s.totals, s.total_count * LANES);
}

// If each number of the position bias's gradient belongs to one query, a thread computes a band of all images or none.
inline int64_t first_item(const AttentionBackwardCall& g, int64_t thread) {
    const AttentionCall& c = g.forward;
    const int64_t together = g.grad_bias_thread ? 1 : c.batch;
    return thread * (c.heads * c.bands * c.batch / together) / c.threads * together;
}

template <class T>
void attention_backward_work(const AttentionBackwardCall& g, int64_t thread) {
    const AttentionCall& c = g.forward;
    const Plan p(c);
    const int64_t size = BackwardScratch(c, p, nullptr).size;
    const BackwardScratch s(c, p, g.workspace + thread * size);
    zero(g.workspace + thread * size, size);
    int64_t head = -1;
    for (int64_t i = first_item(g, thread); i < first_item(g, thread + 1); ++i) {
        const int64_t b = i % c.batch, band = i / c.batch % c.bands, h = i / c.batch / c.bands;
        if (h != head) {
            if (head >= 0) flush_totals(g, s, thread, head);
            pack_tokens(c, p, head = h, s.tokens, s.packed_tokens);
            for (int64_t j = p.area - 1; j >= 0; --j)  // from (area, dim) to rows of the padded dim
                for (int64_t d = p.dim - 1; d >= 0; --d) s.tokens[j * p.dim + d] = d < c.dim ? s.tokens[j * c.dim + d] : 0;
        }
        float* bias = g.grad_pool_bias + thread * g.grad_bias_thread + h * g.grad_bias_head;
        const bool start = !g.grad_bias_thread && b == 0;
        backward_band<T>(g, p, s, {b, h, band * c.height / c.bands, (band + 1) * c.height / c.bands, start, bias});
        store_pooled_grads(g, p, s, (band * c.batch + b) * c.heads + h);
    }
    if (head >= 0) flush_totals(g, s, thread, head);
}

int64_t attention_backward_workspace(const AttentionBackwardCall& g) {
    return g.forward.threads * BackwardScratch(g.forward, Plan(g.forward), nullptr).size;
}

void attention_backward(const AttentionBackwardCall& g, int64_t thread) {
    if (g.forward.half)
        attention_backward_work<bfloat16>(g, thread);
    else
        attention_backward_work<float>(g, thread);
}
