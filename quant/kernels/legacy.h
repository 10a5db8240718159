/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0. Without importance a scale from the block's extremes: a block a lane to find it, the
 * weights of a block side by side to use it. With importance a search, a block a lane. */

enum { PER_BLOCK = 32 / LANES, BYTES = 32 / sizeof(B) }; /* vectors in a block, of floats and of bytes */

/* The greatest and the least weight of as many blocks as there are lanes. */
static inline void extremes(F *most, F *least, const float *x) {
    F high[LANES], low[LANES];
    for (int i = 0; i < LANES; i++) {
        high[i] = low[i] = load(x + 32 * i);
        for (int k = LANES; k < 32; k += LANES) {
            high[i] = greater(high[i], load(x + 32 * i + k));
            low[i] = lesser(low[i], load(x + 32 * i + k));
        }
    }
    *most = fold(high, greater);
    *least = fold(low, lesser);
}

/* The first weight of a block whose magnitude is `a`, with its sign: ggml keeps the first of equals. */
static inline float first_of(const float *x, float a) {
    while (*x != a && *x != -a) x++;
    return *x;
}

/* 1 / d, 0 for 0: the factors of as many blocks. */
static inline void invert(float *inverse, F d) { store(inverse, choose(d != 0, 1.0f / d, all(0))); }

/* The quants of a block, those of four bits or their low halves as nibbles, the fifth bits before them. */
static inline void put_quants(uint8_t *out, const B *q, int bits) {
    if (bits == 4) {
        put_nibbles(out, q);
    } else {
        B low[BYTES];
        uint32_t fifth = fifth_bits(q);
        for (int k = 0; k < (int)BYTES; k++) low[k] = q[k] & 15;
        memcpy(out, &fifth, 4);
        put_nibbles(out + 4, low);
    }
}

static void encode_q8_0(Unit *u) {
    float inverse[LANES];
    uint16_t scales[LANES];
    for (int first = 0; first < u->n; first += LANES) {
        F most, least;
        extremes(&most, &least, u->x + 32 * first);
        F d = absolute(greater(most, -least)) / 127; /* never -0 */
        put_f16s(scales, d);
        /* an infinite factor, from a denormal d, makes nothing that fits an int: in C's cast, 0 in the low byte */
        invert(inverse, choose(1.0f / d < INFINITY, d, all(0)));
        for (int i = first; i < first + LANES && i < u->n; i++) {
            uint8_t *out = u->out + 34 * i;
            B bytes[BYTES];
            I q[PER_BLOCK];
            for (int k = 0; k < PER_BLOCK; k++) {
                /* roundf: halves away from zero, by adding the largest float below a half */
                F t = load(u->x + 32 * i + LANES * k) * inverse[i - first];
                q[k] = truncated(t + (F)(((I)t & INT32_MIN) | (I)all(0x1.fffffep-2f)));
            }
            for (int k = 0; k < (int)BYTES; k++) bytes[k] = bytes_of(q + 4 * k, 1);
            memcpy(out, scales + i - first, 2);
            memcpy(out + 2, bytes, 32);
        }
    }
}

/* Q4_0 and Q5_0: the weight farthest from zero becomes -8 or -16. */
INLINED void encode_signed(Unit *u, int bits_each) {
    const int half = 1 << (bits_each - 1), size = 2 + 4 * bits_each;
    float inverse[LANES], farthest[LANES], a[LANES];
    uint16_t scales[LANES];
    for (int first = 0; first < u->n; first += LANES) {
        const float *x = u->x + 32 * first;
        F most, least;
        extremes(&most, &least, x);
        store(a, greater(most, -least));
        store(farthest, choose(most > -least, most, least));
        for (unsigned equal = bits(most == -least); equal; equal &= equal - 1) {
            int i = __builtin_ctz(equal);
            farthest[i] = a[i] > 0 ? first_of(x + 32 * i, a[i]) : 0.0f; /* of all zeros, even -0, +0: the scale is -0 */
        }
        F d = load(farthest) / (float)-half;
        put_f16s(scales, d);
        invert(inverse, d);
        for (int i = 0; i < LANES && first + i < u->n; i++) {
            uint8_t *out = u->out + size * (first + i);
            B bytes[BYTES];
            I q[PER_BLOCK];
            for (int k = 0; k < PER_BLOCK; k++)
                q[k] = truncated(load(x + 32 * i + LANES * k) * inverse[i] + ((float)half + 0.5f));
            /* INT32_MIN, from an infinite factor, is 0 as int8_t; all others lie in 0 .. 2 half */
            for (int k = 0; k < (int)BYTES; k++) {
                bytes[k] = bytes_of(q + 4 * k, 0);
                bytes[k] += bytes[k] > (int8_t)(2 * half - 1);
            }
            memcpy(out, scales + i, 2);
            put_quants(out + 2, bytes, bits_each);
        }
    }
}

static void encode_q4_0(Unit *u) { encode_signed(u, 4); }
static void encode_q5_0(Unit *u) { encode_signed(u, 5); }

/* Q4_1 and Q5_1: from the least to the greatest weight. */
INLINED void encode_offset(Unit *u, int bits_each) {
    const int top = (1 << bits_each) - 1, size = 4 + 4 * bits_each;
    float inverse[LANES], min[LANES];
    uint16_t scales[LANES], mins[LANES];
    for (int first = 0; first < u->n; first += LANES) {
        const float *x = u->x + 32 * first;
        F most, least;
        extremes(&most, &least, x);
        store(min, least);
        for (unsigned zero = bits(least == 0); zero; zero &= zero - 1) {
            int i = __builtin_ctz(zero);
            min[i] = first_of(x + 32 * i, 0); /* its sign is written */
        }
        F d = choose(most == least, all(0), (most - least) / (float)top);
        put_f16s(scales, d);
        put_f16s(mins, load(min));
        invert(inverse, d);
        for (int i = 0; i < LANES && first + i < u->n; i++) {
            uint8_t *out = u->out + size * (first + i);
            B bytes[BYTES];
            I q[PER_BLOCK];
            for (int k = 0; k < PER_BLOCK; k++)
                q[k] = truncated((load(x + 32 * i + LANES * k) - min[i]) * inverse[i] + 0.5f);
            for (int k = 0; k < (int)BYTES; k++) {
                bytes[k] = bytes_of(q + 4 * k, 0);
                bytes[k] += bytes[k] > (int8_t)top; /* Q5_1 has no such bound and needs none */
            }
            memcpy(out, scales + i, 2);
            memcpy(out + 2, mins + i, 2);
            put_quants(out + 4, bytes, bits_each);
        }
    }
}

static void encode_q4_1(Unit *u) { encode_offset(u, 4); }
static void encode_q5_1(Unit *u) { encode_offset(u, 5); }

/* Searches the blocks from `first` on, as many as the tiles hold. */
static inline void search_blocks(Group *g, const Unit *u, int first, int top, int with_min) {
    F x[32 * TILES], w[32 * TILES];
    float importance[32 * LANES * TILES];
    Found found[TILES];
    for (int i = 0; i < LANES * TILES; i++) memcpy(importance + 32 * i, u->importance[first + i], 32 * sizeof(float));
    tiles_of(x, u->x + 32 * first, 32, TILES);
    tiles_of(w, importance, 32, TILES);
    for (int t = 0; t < TILES; t++) {
        F mean = load(u->row_square + first + t * LANES);
        for (int i = t; i < 32 * TILES; i += TILES) w[i] = w[i] * root(mean + x[i] * x[i]);
    }
    if (with_min) search_offset(found, x, w, 32, (float)top, -0.9f, 0.05f, 36, 0);
    else search_signed(found, x, w, 32, (float)(top + 1) / 2, 0, TILES);
    keep_found(g, found, w, first, 32);
}

static inline void encode_weighted(Unit *u, int size, int top, int with_min) {
    Group g;
    for (int first = 0; first < u->n; first += LANES * TILES) search_blocks(&g, u, first, top, with_min);
    for (int i = 0; i < u->n; i++) {
        uint8_t *out = u->out + size * i;
        B l[BYTES];
        int half = (top + 1) / 2;
        put_f16(out, g.scale[i]);
        if (with_min) put_f16(out + 2, -g.min[i]);
        quants((uint8_t *)l, u->x + 32 * i, 32, 0, 0, &g, i, with_min ? 0 : -half, with_min ? top : half - 1);
        put_quants(out + (with_min ? 4 : 2), l, top == 15 ? 4 : 5);
    }
}

static void encode_q4_0_weighted(Unit *u) { encode_weighted(u, 18, 15, 0); }
static void encode_q4_1_weighted(Unit *u) { encode_weighted(u, 20, 15, 1); }
static void encode_q5_0_weighted(Unit *u) { encode_weighted(u, 22, 31, 0); }
static void encode_q5_1_weighted(Unit *u) { encode_weighted(u, 24, 31, 1); }
