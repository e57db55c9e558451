// Exponential, sine, cosine and arctangent to the bit as `detect/elementary.rs` has them: the same doubles in the same order. Change both.

__device__ __forceinline__ u32 bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(u32 bits) { return __uint_as_float(bits); }
__device__ __forceinline__ bool is_finite(float x) { return (bits_of(x) & 0x7f800000u) != 0x7f800000u; }
__device__ __forceinline__ bool is_nan(float x) { return (bits_of(x) & 0x7fffffffu) > 0x7f800000u; }

template <int N>
__device__ __forceinline__ double horner(double x, const double (&coefficients)[N]) {
    double sum = 0.0;
#pragma unroll
    for (int i = 0; i < N; i++) sum = sum * x + coefficients[i];
    return sum;
}

__device__ __forceinline__ float elementary_exp(float of) {
    if (is_nan(of) || of > 89.0f) return of + float_of(0x7f800000u);
    if (of < -104.0f) return 0.0f;
    const double x = (double)of;
    const double n = floor(x * 1.44269504088896340736 + 0.5);
    const double r = (x - n * 0.69314718036912381649) - n * 1.908214929270587700e-10;
    const double series[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0,
                             1.0 / 120.0,       1.0 / 24.0,       1.0 / 6.0,       0.5,            1.0,           1.0};
    const double two_to_n = __longlong_as_double((long long)(1023 + (i32)n) << 52);
    return (float)(horner(r, series) * two_to_n);
}

__device__ __forceinline__ void elementary_sin_cos(float of, float& sine, float& cosine) {
    const double x = (double)of;
    if (!(x >= -1e6 && x <= 1e6)) {
        sine = cosine = float_of(0x7fc00000u);
        return;
    }
    const double n = floor(x * 0.63661977236758134308 + 0.5);
    const double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
    const double square = r * r;
    const double sin_series[] = {-1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0,
                                 1.0 / 120.0,            -1.0 / 6.0,         1.0};
    const double cos_series[] = {1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0,
                                 -1.0 / 720.0,           1.0 / 24.0,           -0.5,              1.0};
    const double s = horner(square, sin_series) * r, c = horner(square, cos_series);
    const i32 quarter = (i32)n & 3;
    const double turned_s = quarter & 1 ? c : s, turned_c = quarter & 1 ? s : c;
    sine = (float)(quarter >= 2 ? -turned_s : turned_s);
    cosine = (float)(quarter == 1 || quarter == 2 ? -turned_c : turned_c);
}

__device__ __forceinline__ float elementary_atan2(float y, float x) {
    if (is_nan(x) || is_nan(y)) return float_of(0x7fc00000u);
    const double wide = fabs((double)x), high = fabs((double)y);
    const double shorter = high > wide ? wide : high, longer = high > wide ? high : wide;
    const bool both_infinite = !is_finite(x) && !is_finite(y);
    const double ratio = longer == 0.0 ? 0.0 : both_infinite ? 1.0 : shorter / longer;
    const double center = ratio < 0.25 ? 0.0 : ratio < 0.75 ? 0.5 : 1.0;
    const double start = ratio < 0.25 ? 0.0 : ratio < 0.75 ? 0.46364760900080611621 : 0.78539816339744830962;
    const double t = (ratio - center) / (1.0 + ratio * center);
    const double series[] = {1.0 / 21.0, -1.0 / 19.0, 1.0 / 17.0, -1.0 / 15.0, 1.0 / 13.0, -1.0 / 11.0,
                             1.0 / 9.0,  -1.0 / 7.0,  0.2,        -1.0 / 3.0,  1.0};
    double angle = start + horner(t * t, series) * t;
    if (high > wide) angle = 1.57079632679489661923 - angle;
    if (bits_of(x) >> 31) angle = 3.14159265358979323846 - angle;
    return float_of((bits_of((float)angle) & 0x7fffffffu) | (bits_of(y) & 0x80000000u));
}

__device__ __forceinline__ float elementary_hypot(float x, float y) {
    const double a = (double)x, b = (double)y;
    return (float)sqrt(a * a + b * b);
}
