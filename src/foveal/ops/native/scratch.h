// Scratch memory of the kernels.

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Takes consecutive pieces of one thread's scratch memory; without memory it only counts.
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
