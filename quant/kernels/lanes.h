/* Numbers side by side. In most kernels a lane is a sub-block: every lane does what ggml's scalar code does, in its
 * order, so the bits are ggml's. Operators come from the compiler's vector types (GCC, Clang); only what they lack is
 * spelled out, for AVX2 (8 lanes), for SSE2 and for any machine (4 lanes). Nothing here may be contracted or
 * reassociated. */

#ifndef NEMOTRON_LANES_H
#define NEMOTRON_LANES_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(NEMOTRON_AVX2) || defined(__SSE2__)
#include <immintrin.h>
#endif

#ifdef NEMOTRON_AVX2
#define LANES 8
#else
#define LANES 4
#endif

/* For what is slow unless it is compiled anew for each type, with its constants. */
#define INLINED static inline __attribute__((always_inline))

typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES))); /* also masks: -1 where true */
typedef float F_loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t H __attribute__((vector_size(2 * LANES), aligned(1), may_alias));

static inline F load(const float *x) { return (F) * (const F_loose *)x; }
static inline void store(float *at, F v) { *(F_loose *)at = (F_loose)v; }
static inline F all(float v) { return v - (F){0}; }
static inline I all_i(int v) { return v + (I){0}; }
static inline F absolute(F v) { return (F)((I)v & 0x7fffffff); }
static inline F to_float(I v) { return __builtin_convertvector(v, F); }
static inline F load_bf16(const void *x) { return (F)(__builtin_convertvector(*(const H *)x, I) << 16); }

#if defined(NEMOTRON_AVX2)

static inline F choose(I mask, F yes, F no) { return (F)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask); }
static inline F lesser(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }  /* a < b ? a : b */
static inline F greater(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); } /* a > b ? a : b */
static inline I lesser_i(I a, I b) { return (I)_mm256_min_epi32((__m256i)a, (__m256i)b); }
static inline I greater_i(I a, I b) { return (I)_mm256_max_epi32((__m256i)a, (__m256i)b); }
static inline F root(F v) { return (F)_mm256_sqrt_ps((__m256)v); }
static inline I truncated(F v) { return (I)_mm256_cvttps_epi32((__m256)v); } /* INT32_MIN where it does not fit */
static inline unsigned bits(I mask) { return (unsigned)_mm256_movemask_ps((__m256)mask); }

static inline float largest(F v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

/* out[i], lane j = x[j * step + i], for as many i as there are lanes. */
static inline void transpose(F *out, const float *x, int step) {
    __m256 r[8], s[8];
    for (int j = 0; j < 4; j++) {
        const float *a = x + j * step, *b = x + (j + 4) * step;
        r[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1);
        r[j + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a + 4)), _mm_loadu_ps(b + 4), 1);
    }
    for (int h = 0; h < 8; h += 4) {
        s[0] = _mm256_unpacklo_ps(r[h], r[h + 1]);
        s[1] = _mm256_unpackhi_ps(r[h], r[h + 1]);
        s[2] = _mm256_unpacklo_ps(r[h + 2], r[h + 3]);
        s[3] = _mm256_unpackhi_ps(r[h + 2], r[h + 3]);
        out[h] = (F)_mm256_shuffle_ps(s[0], s[2], 0x44);
        out[h + 1] = (F)_mm256_shuffle_ps(s[0], s[2], 0xee);
        out[h + 2] = (F)_mm256_shuffle_ps(s[1], s[3], 0x44);
        out[h + 3] = (F)_mm256_shuffle_ps(s[1], s[3], 0xee);
    }
}

/* Low bytes of 32 numbers, and of 16, in order. */
static inline void put_bytes(uint8_t *out, const I *q) {
    const __m256i low = _mm256_set1_epi32(0xff), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i v[4];
    for (int k = 0; k < 4; k++) v[k] = _mm256_and_si256((__m256i)q[k], low);
    v[0] = _mm256_packus_epi16(_mm256_packus_epi32(v[0], v[1]), _mm256_packus_epi32(v[2], v[3]));
    _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(v[0], order));
}

static inline void put_16_bytes(uint8_t *out, const I *q) {
    const __m256i low = _mm256_set1_epi32(0xff), order = _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0);
    __m256i v = _mm256_packus_epi32(_mm256_and_si256((__m256i)q[0], low), _mm256_and_si256((__m256i)q[1], low));
    v = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(v, v), order);
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(v));
}

static inline uint16_t to_f16(float v) { return (uint16_t)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(v), 0)); }
static inline float from_f16(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static inline F load_f16(const void *x) { return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x)); }

#else

static inline F choose(I mask, F yes, F no) { return (F)((mask & (I)yes) | (~mask & (I)no)); }

#if defined(__SSE2__)

static inline F lesser(F a, F b) { return (F)_mm_min_ps((__m128)a, (__m128)b); }
static inline F greater(F a, F b) { return (F)_mm_max_ps((__m128)a, (__m128)b); }
static inline F root(F v) { return (F)_mm_sqrt_ps((__m128)v); }
static inline I truncated(F v) { return (I)_mm_cvttps_epi32((__m128)v); }
static inline unsigned bits(I mask) { return (unsigned)_mm_movemask_ps((__m128)mask); }

static inline float largest(F v) {
    __m128 m = _mm_max_ps((__m128)v, _mm_movehl_ps((__m128)v, (__m128)v));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

static inline void transpose(F *out, const float *x, int step) {
    __m128 a = _mm_loadu_ps(x), b = _mm_loadu_ps(x + step);
    __m128 c = _mm_loadu_ps(x + 2 * step), d = _mm_loadu_ps(x + 3 * step);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    out[0] = (F)a, out[1] = (F)b, out[2] = (F)c, out[3] = (F)d;
}

static inline void put_16_bytes(uint8_t *out, const I *q) {
    const __m128i low = _mm_set1_epi32(0xff);
    __m128i a = _mm_packs_epi32(_mm_and_si128((__m128i)q[0], low), _mm_and_si128((__m128i)q[1], low));
    __m128i b = _mm_packs_epi32(_mm_and_si128((__m128i)q[2], low), _mm_and_si128((__m128i)q[3], low));
    _mm_storeu_si128((__m128i *)out, _mm_packus_epi16(a, b));
}

#else

static inline F lesser(F a, F b) { return choose(a < b, a, b); }
static inline F greater(F a, F b) { return choose(a > b, a, b); }

static inline F root(F v) {
    for (int i = 0; i < LANES; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
}

/* As x86 does it: INT32_MIN where the number does not fit. */
static inline I truncated(F v) {
    I fits = absolute(v) < all(2147483648.0f);
    return (fits & __builtin_convertvector((F)((I)v & fits), I)) | (~fits & INT32_MIN);
}

static inline unsigned bits(I mask) {
    unsigned found = 0;
    for (int i = 0; i < LANES; i++) found |= (unsigned)(mask[i] & 1) << i;
    return found;
}

static inline float largest(F v) {
    float most = v[0];
    for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
}

static inline void transpose(F *out, const float *x, int step) {
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) out[i][j] = x[j * step + i];
}

static inline void put_16_bytes(uint8_t *out, const I *q) {
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)q[i / LANES][i % LANES];
}

#endif

static inline void put_bytes(uint8_t *out, const I *q) {
    put_16_bytes(out, q);
    put_16_bytes(out + 16, q + 4);
}

static inline I lesser_i(I a, I b) { I m = a < b; return (m & a) | (~m & b); }
static inline I greater_i(I a, I b) { I m = a > b; return (m & a) | (~m & b); }

/* To the nearest, ties to even, as the hardware does it; beyond the range becomes infinite. */
static inline uint16_t to_f16(float v) {
    uint32_t u, sign;
    memcpy(&u, &v, 4);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (u >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) { /* below 2^-14: at 0.5 a float's last place is F16's smallest step, so the sum rounds to it */
        float small;
        memcpy(&small, &u, 4);
        small += 0.5f;
        memcpy(&u, &small, 4);
        return (uint16_t)(sign | (u - 0x3f000000));
    }
    return (uint16_t)(sign | (u + 0xfff + (u >> 13 & 1) - 0x38000000) >> 13);
}

static inline float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, u = (uint32_t)(h & 0x7fff) << 13;
    float v;
    if ((h & 0x7c00) == 0x7c00) {
        u |= 0x7f800000;
    } else if (h & 0x7c00) {
        u += 0x38000000;
    } else { /* a denormal */
        v = (float)(h & 0x3ff) * 0x1p-24f;
        memcpy(&u, &v, 4);
    }
    u |= sign;
    memcpy(&v, &u, 4);
    return v;
}

static inline F load_f16(const void *x) {
    F v;
    H h = *(const H *)x;
    for (int i = 0; i < LANES; i++) v[i] = from_f16(h[i]);
    return v;
}

#endif

#if defined(__SSE2__)

/* Byte j is the low half of byte j and that of byte j + 16. */
static inline void put_nibbles(uint8_t *out, const uint8_t *q) {
    __m128i low = _mm_loadu_si128((const __m128i *)q), high = _mm_loadu_si128((const __m128i *)(q + 16));
    const __m128i half = _mm_set1_epi8(15);
    high = _mm_slli_epi16(_mm_and_si128(high, half), 4);
    _mm_storeu_si128((__m128i *)out, _mm_or_si128(_mm_and_si128(low, half), high));
}

/* Bit j is bit 4 of byte j. */
static inline uint32_t fifth_bits(const uint8_t *bytes) {
    __m128i low = _mm_loadu_si128((const __m128i *)bytes), high = _mm_loadu_si128((const __m128i *)(bytes + 16));
    uint32_t first = (uint32_t)_mm_movemask_epi8(_mm_slli_epi16(low, 3));
    return first | (uint32_t)_mm_movemask_epi8(_mm_slli_epi16(high, 3)) << 16;
}

#else

static inline void put_nibbles(uint8_t *out, const uint8_t *q) {
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static inline uint32_t fifth_bits(const uint8_t *bytes) {
    uint32_t found = 0;
    for (int i = 0; i < 32; i++) found |= (uint32_t)(bytes[i] >> 4 & 1) << i;
    return found;
}

#endif

static inline void put_f16(uint8_t *at, float v) {
    uint16_t h = to_f16(v);
    memcpy(at, &h, 2);
}

static inline float get_f16(const uint8_t *at) {
    uint16_t h;
    memcpy(&h, at, 2);
    return from_f16(h);
}

/* Sub-blocks of n numbers, one after another, to lanes: out[i], lane j = x[j * n + i]. */
static inline void to_lanes(F *out, const float *x, int n) {
    for (int i = 0; i < n; i += LANES) transpose(out + i, x + i, n);
}

/* ggml's nearest_int: adds 1.5 * 2^23 and takes the low bits. Beyond 2^22, infinite or NaN it gives what those bits
 * say, which is kept: inf becomes -2^22, NaN becomes 0. */
static inline I nearest(F v) { return ((I)(v + 12582912.0f) & 0x7fffff) - 0x400000; }
static inline int nearest_1(float v) {
    int32_t i;
    v += 12582912.0f;
    memcpy(&i, &v, 4);
    return (i & 0x7fffff) - 0x400000;
}

/* nearest_int as a float, for |v| < 2^22. */
static inline F nearest_f(F v) { return (v + 12582912.0f) - 12582912.0f; }

/* nearest_int between two bounds, as a float. Unless `exact`, |v| must be below 2^22: two operations less. */
static inline F nearest_within(F v, float low, float high, int exact) {
    if (exact) return to_float(greater_i(all_i((int)low), lesser_i(all_i((int)high), nearest(v))));
    return greater(all(low), lesser(all(high), nearest_f(v)));
}

#endif
