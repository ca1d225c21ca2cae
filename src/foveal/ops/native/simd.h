// Vectors of FOVEAL_LANES floats, the few functions on them that the kernels need, and scratch memory.
//
// Included once for every instruction set, inside that set's target region and namespace: no include guard, and no
// standard header (a function of theirs compiled for a newer processor could be the copy that the linker keeps).

constexpr int64_t LANES = FOVEAL_LANES;
constexpr int64_t TILE = 2 * LANES;  // a tile of queries is one or two vectors

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES)));
typedef float LooseVec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t WordVec __attribute__((vector_size(4 * LANES)));
typedef uint16_t LooseHalfVec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

// Bits of a float, or of a vector's floats, rounded to bfloat16: to nearest, ties to even; a NaN stays a NaN.
template <class Word, class Number>
inline Word half_bits(Number x) {
    const Word word = __builtin_bit_cast(Word, x);
    const Word rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    return x == x ? rounded : (word >> 16 | 0x40);
}

inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec x) { *reinterpret_cast<LooseVec*>(p) = x; }
inline Vec load(const bfloat16* p) {
    const LooseHalfVec half = *reinterpret_cast<const LooseHalfVec*>(p);
    return reinterpret_cast<Vec>(__builtin_convertvector(half, WordVec) << 16);
}
inline void store(bfloat16* p, Vec x) {
    *reinterpret_cast<LooseHalfVec*>(p) = __builtin_convertvector(half_bits<WordVec>(x), LooseHalfVec);
}
inline Vec splat(float x) { return Vec{} + x; }

inline Vec lane_index() {
    Vec x;
    for (int i = 0; i < LANES; ++i) x[i] = float(i);
    return x;
}

inline float sum(Vec x) {
    float total = 0;
    for (int i = 0; i < LANES; ++i) total += x[i];
    return total;
}

inline Vec square_root(Vec x) {
    alignas(64) float a[LANES];
    store(a, x);
    for (int i = 0; i < LANES; ++i) a[i] = __builtin_sqrtf(a[i]);
    return load(a);
}

inline Vec largest(Vec a, Vec b) { return a > b ? a : b; }
inline Vec smallest(Vec a, Vec b) { return a < b ? a : b; }

// Nearest integer of x, |x| < 2^22, by the rounding of an addition; `bits` receives it in the low bits of a float.
inline Vec nearest(Vec x, IntVec& bits) {
    const Vec magic = splat(12582912.0f);  // 1.5 * 2^23
    const Vec shifted = x + magic;
    bits = reinterpret_cast<IntVec>(shifted);
    return shifted - magic;
}

// e^x to 1e-7 relative; below -87 the result is about 1e-38, above 88 it stays at e^88.
inline Vec exponential(Vec exponent) {
    const Vec x = largest(smallest(exponent, splat(88.0f)), splat(-87.0f));
    IntVec n;
    const Vec whole = nearest(x * 1.44269504088896341f, n);
    Vec r = x - whole * 0.693359375f;  // ln 2 in two parts, so that r keeps its digits
    r = r + whole * 2.12194440e-4f;
    Vec p = splat(1.3981999507e-3f);
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    const Vec result = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(p) + (n << 23));
    return exponent == exponent ? result : exponent;  // what is not a number stays visible
}

// ln x of positive normal x, to 1e-7 of the larger of 1 and the result: x = m * 2^e with m around 1.
inline Vec logarithm(Vec x) {
    const IntVec bits = reinterpret_cast<IntVec>(x) - 0x3f3504f3;  // from sqrt(1/2) up
    const IntVec e = bits >> 23;
    const Vec exponent = __builtin_convertvector(e, Vec);
    const Vec r = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(x) - (e << 23)) - 1.0f;
    Vec p = splat(7.0376836292e-2f);
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    p = p * r * r * r - 0.5f * r * r + exponent * -2.12194440e-4f;
    const Vec result = r + p + exponent * 0.693359375f;
    return x == x ? result : x;
}

// ---------------------------------------------------------------------------------------------------------------------
// Transposing rows of a tensor, (position, dim) in memory, to and from (dim, position): SIDE x SIDE tiles in registers.

constexpr int64_t SIDE = LANES < 8 ? 4 : 8;
typedef float Tile __attribute__((vector_size(4 * SIDE)));
typedef float LooseTile __attribute__((vector_size(4 * SIDE), aligned(4), may_alias));
typedef uint16_t LooseHalfTile __attribute__((vector_size(2 * SIDE), aligned(2), may_alias));
typedef uint32_t WordTile __attribute__((vector_size(4 * SIDE)));

inline Tile read(const float* p) { return *reinterpret_cast<const LooseTile*>(p); }
inline Tile read(const bfloat16* p) {
    const LooseHalfTile half = *reinterpret_cast<const LooseHalfTile*>(p);
    return reinterpret_cast<Tile>(__builtin_convertvector(half, WordTile) << 16);
}
inline void write(float* p, Tile x) { *reinterpret_cast<LooseTile*>(p) = x; }
inline void write(bfloat16* p, Tile x) {
    *reinterpret_cast<LooseHalfTile*>(p) = __builtin_convertvector(half_bits<WordTile>(x), LooseHalfTile);
}

inline float to_float(float x) { return x; }
inline float to_float(bfloat16 x) { return __builtin_bit_cast(float, uint32_t(x.bits) << 16); }
inline void from_float(float* p, float x) { *p = x; }
inline void from_float(bfloat16* p, float x) { p->bits = uint16_t(half_bits<uint32_t>(x)); }

// The first `count` numbers of a vector; the others are 0.
template <class T>
inline Vec load_some(const T* from, int64_t count) {
    alignas(64) float numbers[LANES] = {};
    for (int64_t i = 0; i < count; ++i) numbers[i] = to_float(from[i]);
    return load(numbers);
}
template <class T>
inline void store_some(T* to, Vec x, int64_t count) {
    alignas(64) float numbers[LANES];
    store(numbers, x);
    for (int64_t i = 0; i < count; ++i) from_float(to + i, numbers[i]);
}

// Channels c ... c + LANES - 1 of a pixel as floats; 0 beyond the last channel.
template <class T>
inline Vec load_channels(const T* from, int64_t c, int64_t channels) {
    return c + LANES <= channels ? load(from + c) : load_some(from + c, channels - c);
}

template <class T>
inline void store_channels(Vec x, T* to, int64_t c, int64_t channels) {
    c + LANES <= channels ? store(to + c, x) : store_some(to + c, x, channels - c);
}

#if FOVEAL_LANES >= 8
inline void turn(Tile (&r)[SIDE]) {
    Tile a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            b[i + 2 * j] = __builtin_shufflevector(a[i + j], a[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            b[i + 2 * j + 1] = __builtin_shufflevector(a[i + j], a[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        r[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#else
inline void turn(Tile (&r)[SIDE]) {
    Tile a[4];
    for (int i = 0; i < 4; i += 2) {
        a[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 4, 1, 5);
        a[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 6, 3, 7);
    }
    for (int i = 0; i < 2; ++i) {
        r[2 * i] = __builtin_shufflevector(a[i], a[i + 2], 0, 1, 4, 5);
        r[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 2], 2, 3, 6, 7);
    }
}
#endif

constexpr int64_t AHEAD = 2 * SIDE;

// `count` positions of `dim` numbers, `stride` apart, to out[d * ld + position]. Writes up to SIDE - 1 positions more
// than requested (copies of the last one): out must have room, and the caller must not rely on their values.
template <class T>
inline void load_turned(const T* source, int64_t stride, int64_t count, int64_t dim, float* out, int64_t ld) {
    for (int64_t x = 0; x < count; x += SIDE) {
        const T* rows[SIDE];
        for (int64_t i = 0; i < SIDE; ++i) {
            rows[i] = source + (x + i < count ? x + i : count - 1) * stride;
            // The rows are too far apart for the hardware prefetcher.
            __builtin_prefetch(rows[i] + AHEAD * stride);
            __builtin_prefetch(rows[i] + AHEAD * stride + dim - 1);
        }
        int64_t d = 0;
        for (; d + SIDE <= dim; d += SIDE) {
            Tile tile[SIDE];
            for (int64_t i = 0; i < SIDE; ++i) tile[i] = read(rows[i] + d);
            turn(tile);
            for (int64_t i = 0; i < SIDE; ++i) write(out + (d + i) * ld + x, tile[i]);
        }
        for (; d < dim; ++d)
            for (int64_t i = 0; i < SIDE; ++i) out[d * ld + x + i] = to_float(rows[i][d]);
    }
}

// The inverse: `count` positions from in[d * ld + position] to rows of `dim` numbers, `stride` apart.
template <class T>
inline void store_turned(const float* in, int64_t ld, int64_t count, int64_t dim, T* target, int64_t stride) {
    for (int64_t x = 0; x < count; x += SIDE) {
        const int64_t rows = count - x < SIDE ? count - x : SIDE;
        int64_t d = 0;
        for (; d + SIDE <= dim; d += SIDE) {
            Tile tile[SIDE];
            for (int64_t i = 0; i < SIDE; ++i) tile[i] = read(in + (d + i) * ld + x);
            turn(tile);
            for (int64_t i = 0; i < rows; ++i) write(target + (x + i) * stride + d, tile[i]);
        }
        for (; d < dim; ++d)
            for (int64_t i = 0; i < rows; ++i) from_float(target + (x + i) * stride + d, in[d * ld + x + i]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The exact GELU, x * Phi(x), and its derivative.

constexpr float NORMAL_END = 5.2f;  // beyond it Phi is 0 or 1 in single precision

// The normal distribution's Phi(x) to 1.5e-7. Phi(x) - 0.5 = x * p(t), t = 2 x^2 / NORMAL_END^2 - 1: around the middle
// of its range the polynomial (a minimax fit) has small coefficients of falling size, so nothing cancels.
inline Vec normal_distribution(Vec x) {
    const Vec t = x * x * (2 / (NORMAL_END * NORMAL_END)) - 1.0f;
    Vec p = splat(-4.812773610e-4f);
    p = p * t + 1.268511107e-3f;
    p = p * t - 1.221492996e-3f;
    p = p * t + 1.800122445e-3f;
    p = p * t - 4.789039771e-3f;
    p = p * t + 8.559968008e-3f;
    p = p * t - 1.250512057e-2f;
    p = p * t + 1.795478677e-2f;
    p = p * t - 2.472362969e-2f;
    p = p * t + 3.198995932e-2f;
    p = p * t - 3.992981955e-2f;
    p = p * t + 5.002452135e-2f;
    p = p * t - 6.774366748e-2f;
    p = p * t + 1.359499930e-1f;
    p = x * p + 0.5f;
    p = x < -NORMAL_END ? Vec{} : p;
    return x > NORMAL_END ? splat(1.0f) : p;
}

inline Vec gelu(Vec x) { return x * normal_distribution(x); }

// d gelu / dx = Phi(x) + x * density(x), from x and Phi(x).
inline Vec gelu_derivative(Vec x, Vec phi) { return phi + x * 0.398942280401432678f * exponential(x * x * -0.5f); }

// ---------------------------------------------------------------------------------------------------------------------
// Scratch memory.

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Hands out consecutive pieces of one thread's scratch memory; without memory it only counts.
struct Arena {
    float* base;
    int64_t used = 0;
    float* take(int64_t floats) {
        float* piece = base ? base + used : nullptr;
        used += round_up(floats, 16);
        return piece;
    }
};

inline void zero(float* p, int64_t n) { __builtin_memset(p, 0, n * sizeof(float)); }
