/* Numbers side by side. In most kernels a lane is a sub-block: every lane does what ggml's scalar code does, in its
 * order, so the bits are ggml's. Operators come from the compiler's vector types (GCC, Clang); only what they lack is
 * spelled out, for AVX2 (8 lanes), for SSE2 and for any machine (4 lanes). Nothing here may be contracted or
 * reassociated. */

#ifndef NEMOTRON_LANES_H
#define NEMOTRON_LANES_H

#include <float.h>
#include <math.h>
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
typedef int8_t B __attribute__((vector_size(4 * LANES))); /* a block of 32 is 32 / sizeof(B) of them */

static inline F load(const float *x) { return (F) * (const F_loose *)x; }
static inline void store(float *at, F v) { *(F_loose *)at = (F_loose)v; }
static inline F all(float v) { return v - (F){0}; }
static inline I all_i(int v) { return v + (I){0}; }
static inline F absolute(F v) { return (F)((I)v & 0x7fffffff); }
static inline F to_float(I v) { return __builtin_convertvector(v, F); }

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

typedef F Pick(F, F); /* lesser or greater */

/* Lane j = what is picked of all lanes of v[j]. */
INLINED F fold(const F *v, Pick pick) {
    __m256 r[4], s[2];
    for (int i = 0; i < 4; i++) {
        __m256 a = (__m256)v[2 * i], b = (__m256)v[2 * i + 1];
        r[i] = (__m256)pick((F)_mm256_unpacklo_ps(a, b), (F)_mm256_unpackhi_ps(a, b));
    }
    for (int i = 0; i < 2; i++) {
        __m256 a = r[2 * i], b = r[2 * i + 1];
        s[i] = (__m256)pick((F)_mm256_shuffle_ps(a, b, 0x44), (F)_mm256_shuffle_ps(a, b, 0xee));
    }
    return pick((F)_mm256_permute2f128_ps(s[0], s[1], 0x20), (F)_mm256_permute2f128_ps(s[0], s[1], 0x31));
}

/* Numbers of four vectors as bytes, in order; what does not fit becomes the nearest that does. */
static inline B bytes_of(const I *q, int is_signed) {
    const __m256i *v = (const __m256i *)q, order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i a = _mm256_packs_epi32(v[0], v[1]), b = _mm256_packs_epi32(v[2], v[3]);
    a = is_signed ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
    return (B)_mm256_permutevar8x32_epi32(a, order);
}

/* Byte j is the low half of byte j and that of byte j + 16; none is above 15. */
static inline void put_nibbles(uint8_t *out, const B *q) {
    __m128i high = _mm_slli_epi16(_mm256_extracti128_si256((__m256i)*q, 1), 4);
    _mm_storeu_si128((__m128i *)out, _mm_or_si128(_mm256_castsi256_si128((__m256i)*q), high));
}

/* Bit j is bit 4 of byte j. */
static inline uint32_t fifth_bits(const B *q) {
    return (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16((__m256i)*q, 3));
}

/* Low bytes of 16 numbers. */
static inline void put_16_bytes(uint8_t *out, const I *q) {
    const __m256i low = _mm256_set1_epi32(0xff), order = _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0);
    __m256i v = _mm256_packus_epi32(_mm256_and_si256((__m256i)q[0], low), _mm256_and_si256((__m256i)q[1], low));
    v = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(v, v), order);
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(v));
}

static inline void put_f16s(uint16_t *out, F v) {
    _mm_storeu_si128((__m128i *)out, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}

static inline uint16_t to_f16(float v) { return (uint16_t)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(v), 0)); }
static inline float from_f16(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static inline F load_bf16(const void *x) {
    return (F)((I)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x)) << 16);
}
static inline F load_f16(const void *x) { return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x)); }

#else

typedef uint16_t H __attribute__((vector_size(2 * LANES), aligned(1), may_alias));

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

static inline B bytes_of(const I *q, int is_signed) {
    const __m128i *v = (const __m128i *)q;
    __m128i a = _mm_packs_epi32(v[0], v[1]), b = _mm_packs_epi32(v[2], v[3]);
    return (B)(is_signed ? _mm_packs_epi16(a, b) : _mm_packus_epi16(a, b));
}

static inline uint32_t fifth_bits(const B *q) {
    uint32_t first = (uint32_t)_mm_movemask_epi8(_mm_slli_epi16((__m128i)q[0], 3));
    return first | (uint32_t)_mm_movemask_epi8(_mm_slli_epi16((__m128i)q[1], 3)) << 16;
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
    for (int i = 0; i < LANES; i++) out[i] = (F){x[i], x[step + i], x[2 * step + i], x[3 * step + i]};
}

static inline B bytes_of(const I *q, int is_signed) {
    const int low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;
    B b;
    for (int i = 0; i < 16; i++) {
        int v = q[i / LANES][i % LANES];
        b[i] = (int8_t)(v < low ? low : v > high ? high : v);
    }
    return b;
}

static inline uint32_t fifth_bits(const B *q) {
    uint32_t found = 0;
    for (int i = 0; i < 32; i++) found |= (uint32_t)(q[i / 16][i % 16] >> 4 & 1) << i;
    return found;
}

static inline void put_16_bytes(uint8_t *out, const I *q) {
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)q[i / LANES][i % LANES];
}

#endif

typedef F Pick(F, F);

INLINED F fold(const F *v, Pick pick) {
    F turned[4];
    transpose(turned, (const float *)v, 4);
    return pick(pick(turned[0], turned[1]), pick(turned[2], turned[3]));
}

typedef uint16_t W __attribute__((vector_size(16)));

static inline void put_nibbles(uint8_t *out, const B *q) {
    W both = (W)q[0] | (W)q[1] << 4;
    memcpy(out, &both, 16);
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

static inline void put_f16s(uint16_t *out, F v) {
    for (int i = 0; i < LANES; i++) out[i] = to_f16(v[i]);
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

static inline F load_bf16(const void *x) { return (F)(__builtin_convertvector(*(const H *)x, I) << 16); }

static inline F load_f16(const void *x) {
    F v;
    H h = *(const H *)x;
    for (int i = 0; i < LANES; i++) v[i] = from_f16(h[i]);
    return v;
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

/* nearest_int as a float, for |v| < 2^22; of a zero the sign may differ, which no sum shows. */
static inline F nearest_f(F v) {
#ifdef NEMOTRON_AVX2
    return (F)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    return (v + 12582912.0f) - 12582912.0f;
#endif
}

/* nearest_int between two bounds, as a float. Unless `exact`, |v| must be below 2^22: two operations less. */
static inline F nearest_within(F v, float low, float high, int exact) {
    if (exact) return to_float(greater_i(all_i((int)low), lesser_i(all_i((int)high), nearest(v))));
    return greater(all(low), lesser(all(high), nearest_f(v)));
}

#endif
