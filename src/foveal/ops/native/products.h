// Products of tokens with weights that are shared by all tokens: x W^T, for matrices that stay in the cache.
//
// Matrices are blocked: number k of row m is at [k / LANES][m][k % LANES], so that a row of a map is a row of the
// depthwise kernels for every vector of channels. Weights are packed in panels of two vectors of outputs: (K, 2 LANES).

constexpr int64_t PANEL = 2 * LANES;
constexpr int ROWS = LANES == 16 ? 12 : 6;  // accumulators of two vectors each, beside a panel's two vectors

struct Blocked {
    float* data;
    int64_t rows;
    float* at(int64_t vector, int64_t row) const { return data + (vector * rows + row) * LANES; }
    Blocked from(int64_t row) const { return {data + row * LANES, rows}; }
};

// Where sums start: at the bias of their output.
struct Biases {
    const float* bias;
    Vec operator()(int64_t, int64_t vector) const { return load(bias + vector * LANES); }
};

// N rows of a panel's two vectors of outputs: start(row, vector of the panel) is where their sums start, and
// store(row, vector of the panel, sums) receives them.
template <int N, class Start, class Store>
inline void panel_rows(const Blocked& x, int64_t first, int64_t inputs, const float* panel, Start start,
                       Store store_sums) {
    Vec acc[N][2];
    for (int i = 0; i < N; ++i)
        for (int v = 0; v < 2; ++v) acc[i][v] = start(first + i, v);
    for (int64_t k = 0; k < inputs; k += LANES) {
        const float* numbers = x.at(k / LANES, first);
        const int64_t count = inputs - k < LANES ? inputs - k : LANES;
        for (int64_t l = 0; l < count; ++l, panel += PANEL) {
            const Vec a = load(panel), b = load(panel + LANES);
            FOVEAL_UNROLL
            for (int i = 0; i < N; ++i) {
                const float number = numbers[i * LANES + l];
                acc[i][0] += number * a;
                acc[i][1] += number * b;
            }
        }
    }
    for (int i = 0; i < N; ++i)
        for (int v = 0; v < 2; ++v) store_sums(first + i, v, acc[i][v]);
}

template <int N, class Start, class Store>
inline void some_rows(int64_t n, const Blocked& x, int64_t first, int64_t inputs, const float* panel, Start start,
                      Store store_sums) {
    if (n == N)
        panel_rows<N>(x, first, inputs, panel, start, store_sums);
    else if constexpr (N > 1)
        some_rows<N - 1>(n, x, first, inputs, panel, start, store_sums);
}

// The first `rows` rows of x (rows, inputs) times all panels, which are `stride` floats apart: start(row, vector of
// outputs) is where sums start, and store(row, vector of outputs, sums) receives the results.
template <class Start, class Store>
inline void product(const Blocked& x, int64_t rows, int64_t inputs, const float* weights, int64_t stride,
                    int64_t panels, Start start, Store store_sums) {
    const int64_t groups = (rows + ROWS - 1) / ROWS;
    for (int64_t p = 0; p < panels; ++p, weights += stride)
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = g * rows / groups, n = (g + 1) * rows / groups - first;
            some_rows<ROWS>(
                n, x, first, inputs, weights, [&](int64_t row, int v) { return start(row, 2 * p + v); },
                [&](int64_t row, int v, Vec sums) { store_sums(row, 2 * p + v, sums); });
        }
}
