/* Eight numbers side by side. In most kernels a lane is a sub-block: every lane does what ggml's scalar code does, in
 * its order, so the bits are ggml's. Operators come from the compiler's vector types (GCC, Clang); only what they lack
 * is spelled out, once for AVX2 and once for any machine. Nothing here may be contracted or reassociated. */

#ifndef NEMOTRON_LANES_H
#define NEMOTRON_LANES_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#ifdef NEMOTRON_AVX2
#include <immintrin.h>
#endif

#define LANES 8

typedef float F __attribute__((vector_size(32)));
typedef int32_t I __attribute__((vector_size(32))); /* also masks: -1 where true */
typedef float F_loose __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t I_loose __attribute__((vector_size(32), aligned(4), may_alias));

static inline F load(const float *x) { return (F) * (const F_loose *)x; }
static inline void store(float *at, F v) { *(F_loose *)at = (F_loose)v; }
static inline F all(float v) { return (F){v, v, v, v, v, v, v, v}; }
static inline I all_i(int v) { return (I){v, v, v, v, v, v, v, v}; }
static inline F absolute(F v) { return (F)((I)v & 0x7fffffff); }
static inline F to_float(I v) { return __builtin_convertvector(v, F); }

#ifdef NEMOTRON_AVX2

static inline F choose(I mask, F yes, F no) { return (F)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask); }
static inline F lesser(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }   /* a < b ? a : b */
static inline F greater(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }  /* a > b ? a : b */
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

/* Low bytes of 32 numbers, in order. */
static inline void put_bytes(uint8_t *out, I a, I b, I c, I d) {
    const __m256i low = _mm256_set1_epi32(0xff);
    __m256i ab = _mm256_packus_epi32(_mm256_and_si256((__m256i)a, low), _mm256_and_si256((__m256i)b, low));
    __m256i cd = _mm256_packus_epi32(_mm256_and_si256((__m256i)c, low), _mm256_and_si256((__m256i)d, low));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order));
}

/* Bit j is bit 4 of byte j. */
static inline uint32_t fifth_bits(const uint8_t *bytes) {
    return (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(_mm256_loadu_si256((const __m256i *)bytes), 3));
}

static inline uint16_t to_f16(float v) { return (uint16_t)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(v), 0)); }
static inline float from_f16(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static inline F load_f16(const uint16_t *x) { return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x)); }
static inline F load_bf16(const uint16_t *x) {
    return (F)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x)), 16);
}

/* out[i], lane j = x[j * step + i], for eight i. */
static inline void transpose(F *out, const float *x, int step) {
    __m256 r[8], s[8];
    for (int j = 0; j < 4; j++) {
        r[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + j * step)), _mm_loadu_ps(x + (j + 4) * step), 1);
        r[j + 4] = _mm256_insertf128_ps(
            _mm256_castps128_ps256(_mm_loadu_ps(x + j * step + 4)), _mm_loadu_ps(x + (j + 4) * step + 4), 1);
    }
    for (int h = 0; h < 8; h += 4) {
        s[h] = _mm256_unpacklo_ps(r[h], r[h + 1]);
        s[h + 1] = _mm256_unpackhi_ps(r[h], r[h + 1]);
        s[h + 2] = _mm256_unpacklo_ps(r[h + 2], r[h + 3]);
        s[h + 3] = _mm256_unpackhi_ps(r[h + 2], r[h + 3]);
        out[h] = (F)_mm256_shuffle_ps(s[h], s[h + 2], 0x44);
        out[h + 1] = (F)_mm256_shuffle_ps(s[h], s[h + 2], 0xee);
        out[h + 2] = (F)_mm256_shuffle_ps(s[h + 1], s[h + 3], 0x44);
        out[h + 3] = (F)_mm256_shuffle_ps(s[h + 1], s[h + 3], 0xee);
    }
}

#else

static inline F choose(I mask, F yes, F no) { return (F)((mask & (I)yes) | (~mask & (I)no)); }
static inline F lesser(F a, F b) { return choose(a < b, a, b); }
static inline F greater(F a, F b) { return choose(a > b, a, b); }
static inline I lesser_i(I a, I b) { I m = a < b; return (m & a) | (~m & b); }
static inline I greater_i(I a, I b) { I m = a > b; return (m & a) | (~m & b); }

static inline F root(F v) {
    for (int i = 0; i < LANES; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
}

/* As x86 does it: INT32_MIN where the number does not fit. */
static inline I truncated(F v) {
    I fits = (absolute(v) < 2147483648.0f);
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

static inline void put_bytes(uint8_t *out, I a, I b, I c, I d) {
    for (int i = 0; i < LANES; i++) {
        out[i] = (uint8_t)a[i];
        out[i + 8] = (uint8_t)b[i];
        out[i + 16] = (uint8_t)c[i];
        out[i + 24] = (uint8_t)d[i];
    }
}

static inline uint32_t fifth_bits(const uint8_t *bytes) {
    uint32_t found = 0;
    for (int i = 0; i < 32; i++) found |= (uint32_t)(bytes[i] >> 4 & 1) << i;
    return found;
}

/* To the nearest, ties to even, as the hardware does it; beyond the range becomes infinite. */
static inline uint16_t to_f16(float v) {
    uint32_t u, sign;
    memcpy(&u, &v, 4);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (u >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) { /* below 2^-14: a float whose last place is F16's smallest step rounds for us */
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

static inline F load_f16(const uint16_t *x) {
    F v;
    for (int i = 0; i < LANES; i++) v[i] = from_f16(x[i]);
    return v;
}

static inline F load_bf16(const uint16_t *x) {
    I v;
    for (int i = 0; i < LANES; i++) v[i] = (int32_t)((uint32_t)x[i] << 16);
    return (F)v;
}

static inline void transpose(F *out, const float *x, int step) {
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < LANES; j++) out[i][j] = x[j * step + i];
}

#endif

static inline void put_f16(uint8_t *at, float v) {
    uint16_t h = to_f16(v);
    memcpy(at, &h, 2);
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

/* The same as a float, two operations shorter, for |v| < 2^22 only. */
static inline F nearest_f(F v) { return (v + 12582912.0f) - 12582912.0f; }

#endif
