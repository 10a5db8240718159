/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0. Without importance a scale from the block's extremes, elements of one block side by
 * side; with importance a search, a block a lane. */

enum { PER_BLOCK = 32 / LANES }; /* vectors in a block */

/* The first element that equals `value`, with its own sign: ggml keeps the first of equals. */
static inline float first_equal(const float *x, const F *v, float value) {
    unsigned found = 0;
    for (int k = 0; k < PER_BLOCK; k++) found |= bits(v[k] == value) << LANES * k;
    return x[__builtin_ctz(found)];
}

static inline void put_five_bits(uint8_t *high, uint8_t *low, const uint8_t *q) {
    uint32_t fifth = fifth_bits(q);
    memcpy(high, &fifth, 4);
    put_nibbles(low, q);
}

static inline float most(const F *v) {
    F m = v[0];
    for (int k = 1; k < PER_BLOCK; k++) m = greater(m, v[k]);
    return largest(m);
}

static inline void encode_q8_0(Unit *u) {
    for (int i = 0; i < u->n; i++) {
        uint8_t *out = u->out + 34 * i;
        F v[PER_BLOCK], a[PER_BLOCK];
        I q[PER_BLOCK];
        for (int k = 0; k < PER_BLOCK; k++) v[k] = load(u->x + 32 * i + LANES * k), a[k] = absolute(v[k]);
        float d = most(a) / 127;
        float id = d != 0 ? 1.0f / d : 0.0f;
        for (int k = 0; k < PER_BLOCK; k++) {
            /* roundf: halves away from zero, by adding the largest float below a half. inf and NaN, from a denormal d,
             * become INT32_MIN as in the C cast, whose low byte is 0. */
            F t = v[k] * id;
            q[k] = truncated(t + (F)(((I)t & INT32_MIN) | (I)all(0x1.fffffep-2f)));
        }
        put_f16(out, d);
        put_bytes(out + 2, q);
    }
}

/* Q4_0 and Q5_0: the element farthest from zero becomes -8 or -16. */
static inline void encode_signed(Unit *u, int size, float half) {
    for (int i = 0; i < u->n; i++) {
        const float *x = u->x + 32 * i;
        uint8_t *out = u->out + size * i, bytes[32];
        F v[PER_BLOCK], a[PER_BLOCK];
        I q[PER_BLOCK];
        for (int k = 0; k < PER_BLOCK; k++) v[k] = load(x + LANES * k), a[k] = absolute(v[k]);
        float amax = most(a);
        /* of all zeros, even -0, the maximum stays +0 and the scale is -0 */
        float max = amax > 0 ? first_equal(x, a, amax) : 0.0f;
        float d = max / -half;
        float id = d != 0 ? 1.0f / d : 0.0f;
        for (int k = 0; k < PER_BLOCK; k++) {
            /* INT32_MIN, from an infinite id, is 0 as int8_t; all others lie in 0 .. 2 half */
            q[k] = lesser_i(truncated(v[k] * id + (half + 0.5f)) & 0xff, all_i((int)half * 2 - 1));
        }
        put_f16(out, d);
        put_bytes(bytes, q);
        if (size == 18) put_nibbles(out + 2, bytes);
        else put_five_bits(out + 2, out + 6, bytes);
    }
}

static void encode_q4_0(Unit *u) { encode_signed(u, 18, 8); }
static void encode_q5_0(Unit *u) { encode_signed(u, 22, 16); }

/* Q4_1 and Q5_1: from the least to the greatest element. */
static inline void encode_offset(Unit *u, int size, int top) {
    for (int i = 0; i < u->n; i++) {
        const float *x = u->x + 32 * i;
        uint8_t *out = u->out + size * i, bytes[32];
        F v[PER_BLOCK], minus[PER_BLOCK];
        I q[PER_BLOCK];
        for (int k = 0; k < PER_BLOCK; k++) v[k] = load(x + LANES * k), minus[k] = -v[k];
        float max = most(v), min = -most(minus);
        if (min == 0) min = first_equal(x, v, 0); /* its sign is written */
        float d = max == min ? 0.0f : (max - min) / (float)top;
        float id = d != 0 ? 1.0f / d : 0.0f;
        for (int k = 0; k < PER_BLOCK; k++) {
            q[k] = truncated((v[k] - min) * id + 0.5f) & 0xff;
            if (top == 15) q[k] = lesser_i(q[k], all_i(15));
        }
        put_f16(out, d);
        put_f16(out + 2, min);
        put_bytes(bytes, q);
        if (top == 15) put_nibbles(out + 4, bytes);
        else put_five_bits(out + 4, out + 8, bytes);
    }
}

static void encode_q4_1(Unit *u) { encode_offset(u, 20, 15); }
static void encode_q5_1(Unit *u) { encode_offset(u, 24, 31); }

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
    else search_signed(found, x, w, 32, (float)(top + 1) / 2, 0);
    keep_found(g, found, w, first, 32);
}

static inline void encode_weighted(Unit *u, int size, int top, int with_min) {
    Group g;
    for (int first = 0; first < u->n; first += LANES * TILES) search_blocks(&g, u, first, top, with_min);
    for (int i = 0; i < u->n; i++) {
        uint8_t *out = u->out + size * i, l[32];
        int half = (top + 1) / 2;
        put_f16(out, g.scale[i]);
        if (with_min) put_f16(out + 2, -g.min[i]);
        quants(l, u->x + 32 * i, 32, 0, 0, &g, i, with_min ? 0 : -half, with_min ? top : half - 1);
        out += with_min ? 4 : 2;
        if (top == 15) put_nibbles(out, l);
        else put_five_bits(out, out + 4, l);
    }
}

static void encode_q4_0_weighted(Unit *u) { encode_weighted(u, 18, 15, 0); }
static void encode_q4_1_weighted(Unit *u) { encode_weighted(u, 20, 15, 1); }
static void encode_q5_0_weighted(Unit *u) { encode_weighted(u, 22, 31, 0); }
static void encode_q5_1_weighted(Unit *u) { encode_weighted(u, 24, 31, 1); }
