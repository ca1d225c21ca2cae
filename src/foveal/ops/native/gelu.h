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
