/* MXFP4 and NVFP4: E2M1 numbers under a scale of 8 bits. ggml takes the level with the least error, the first of
 * equals; the differences that decide are exact, so that is: from above the middle on, the next level. Zero has no
 * minus. */

static inline I nearest_e2m1(F x, float d) {
    static const float MIDDLES[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    F a = absolute(x);
    I q = all_i(0);
    for (int i = 0; i < 7; i++) q -= a > MIDDLES[i] * d;
    return q | ((x < 0) & (q != 0) & 8);
}

/* floorf(log2f(x)): near a power of two from below, log2f rounds up to it. */
static inline int floor_log2(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if (u >> 23 == 0 || (u & 0x7fff00) == 0x7fff00) return (int)floorf((float)log2((double)x));
    return (int)(u >> 23) - 127;
}

/* The quants of MXFP4 where 2 / d is a float. Twice a weight, measured in d, is exact, and the middles are whole numbers:
 * what stands above one of them is not below it after losing its last bit. A zero loses its own and becomes NaN, then
 * -128, which is above nothing. */
static inline void nearest_in_halves(B *bytes, const float *x, float inverse, const B *middles) {
    I n[PER_BLOCK];
    for (int k = 0; k < PER_BLOCK; k++) n[k] = truncated((F)((I)(load(x + LANES * k) * inverse) - 1));
    for (int k = 0; k < (int)BYTES; k++) {
        B q = bytes_of(n + 4 * k, 1), minus = q < 0, a = (q ^ minus) - minus;
        bytes[k] = minus & (a > middles[0]) & 8;
        for (int i = 0; i < 7; i++) bytes[k] -= a > middles[i];
    }
}

static inline void put_mxfp4(uint8_t *out, const float *x, float amax, const B *middles) {
    /* below 2^-125 the exponent wraps to a huge scale: all becomes 0 */
    uint8_t e = amax > 0 ? (uint8_t)(floor_log2(amax) - 2 + 127) : 0;
    B bytes[BYTES];
    out[0] = e;
    if (e >= 2 && e < 254) {
        uint32_t u = (256u - e) << 23; /* 2^(129 - e) */
        float inverse;
        memcpy(&inverse, &u, 4);
        nearest_in_halves(bytes, x, inverse, middles);
    } else {
        I q[PER_BLOCK];
        float d = ldexpf(1, e - 128); /* half of what e says, as the levels are twice as large */
        for (int k = 0; k < PER_BLOCK; k++) q[k] = nearest_e2m1(load(x + LANES * k), d);
        for (int k = 0; k < (int)BYTES; k++) bytes[k] = bytes_of(q + 4 * k, 0);
    }
    put_nibbles(out + 1, bytes);
}

static void encode_mxfp4(Unit *u) {
    static const int8_t BELOW[7] = {0, 2, 4, 6, 9, 13, 19}; /* the whole numbers below the middles */
    float amax[LANES];
    B middles[7];
    for (int i = 0; i < 7; i++) middles[i] = BELOW[i] + (B){0};
    for (int first = 0; first < u->n; first += LANES) {
        F most, least;
        extremes(&most, &least, u->x + 32 * first);
        store(amax, greater(most, -least));
        for (int i = 0; i < LANES && first + i < u->n; i++)
            put_mxfp4(u->out + 17 * (first + i), u->x + 32 * (first + i), amax[i], middles);
    }
}

/* To an unsigned E4M3, ggml's way: what is half way or above goes up. */
static inline uint8_t to_ue4m3(float x) {
    uint32_t u;
    if (!(x > 0)) return 0;
    if (x >= 248) return 0x7e; /* all that would round to 256 or more is 448 */
    memcpy(&u, &x, 4);
    int e = (int)(u >> 23) - 127 + 7;
    if (e <= 0) {
        int q = (int)(x * 512 + 0.5f);
        return (uint8_t)(q > 7 ? 7 : q);
    }
    return (uint8_t)((e << 3) + (int)(((u >> 19 & 15) + 1) >> 1));
}

/* Half of what the code says, as the levels are twice as large. */
static inline float from_ue4m3(uint8_t code) {
    int e = code >> 3, m = code & 7;
    return e ? ldexpf(8 + (float)m, e - 11) : ldexpf((float)m, -10);
}

/* Beyond what the largest scale reaches the errors are rounded, until all are equal: done as it is written. */
static inline uint8_t least_error_e2m1(float x, float d) {
    static const int8_t LEVEL[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (fabsf((float)LEVEL[i] * d - x) < fabsf((float)LEVEL[best] * d - x)) best = i;
    return (uint8_t)best;
}

static void encode_nvfp4(Unit *u) {
    for (int i = 0; i < 4 * u->n; i++) {
        const float *x = u->x + 16 * i;
        uint8_t *out = u->out + i / 4 * 36, l[16];
        F most_of = all(0);
        I q[16 / LANES];
        for (int k = 0; k < 16; k += LANES) most_of = greater(most_of, absolute(load(x + k)));
        float amax = largest(most_of);
        uint8_t code = to_ue4m3(amax / 6);
        float d = from_ue4m3(code);
        for (int k = 0; k < 16; k += LANES) q[k / LANES] = code ? nearest_e2m1(load(x + k), d) : all_i(0);
        put_16_bytes(l, q);
        if (amax > 6 * 448)
            for (int k = 0; k < 16; k++) l[k] = least_error_e2m1(x[k], d);
        out[i % 4] = code;
        for (int k = 0; k < 8; k++) out[4 + i % 4 * 8 + k] = (uint8_t)(l[k] | l[k + 8] << 4);
    }
}
