/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 without importance: one scale from the block's extremes. A block is four vectors. */

/* The first element that equals `value`, with its own sign: ggml keeps the first of equals. */
static inline float first_equal(const float *x, F a, F b, F c, F d, float value) {
    unsigned found = bits(a == value) | bits(b == value) << 8 | bits(c == value) << 16 | bits(d == value) << 24;
    return x[__builtin_ctz(found)];
}

static inline void put_nibbles(uint8_t *out, const uint8_t *q) {
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)((q[j] & 15) | q[j + 16] << 4);
}

static inline void put_five_bits(uint8_t *high, uint8_t *low, const uint8_t *q) {
    uint32_t fifth = fifth_bits(q);
    memcpy(high, &fifth, 4);
    put_nibbles(low, q);
}

static inline void encode_q8_0(Unit *u) {
    for (int i = 0; i < u->n; i++) {
        const float *x = u->x + 32 * i;
        uint8_t *out = u->out + 34 * i;
        F v[4];
        I q[4];
        for (int k = 0; k < 4; k++) v[k] = load(x + 8 * k);
        float amax = largest(greater(greater(absolute(v[0]), absolute(v[1])), greater(absolute(v[2]), absolute(v[3]))));
        float d = amax / 127;
        F id = all(d != 0 ? 1.0f / d : 0.0f);
        for (int k = 0; k < 4; k++) {
            /* roundf: halves away from zero, by adding the largest float below a half. inf and NaN, from a denormal d,
             * become INT32_MIN as in the C cast, whose low byte is 0. */
            F t = v[k] * id;
            q[k] = truncated(t + (F)(((I)t & INT32_MIN) | (I)all(0x1.fffffep-2f)));
        }
        put_f16(out, d);
        put_bytes(out + 2, q[0], q[1], q[2], q[3]);
    }
}

/* Q4_0 and Q5_0: the element farthest from zero becomes -8 or -16. */
static inline void encode_signed(Unit *u, int size, float half) {
    for (int i = 0; i < u->n; i++) {
        const float *x = u->x + 32 * i;
        uint8_t *out = u->out + size * i, bytes[32];
        F v[4], a[4];
        I q[4];
        for (int k = 0; k < 4; k++) v[k] = load(x + 8 * k), a[k] = absolute(v[k]);
        float amax = largest(greater(greater(a[0], a[1]), greater(a[2], a[3])));
        /* of all zeros, even -0, the maximum stays +0 and the scale is -0 */
        float max = amax > 0 ? first_equal(x, a[0], a[1], a[2], a[3], amax) : 0.0f;
        float d = max / -half;
        F id = all(d != 0 ? 1.0f / d : 0.0f);
        for (int k = 0; k < 4; k++) {
            /* INT32_MIN, from an infinite id, is 0 as int8_t; all others lie in 0 .. 2 half */
            q[k] = lesser_i(truncated(v[k] * id + (half + 0.5f)) & 0xff, all_i((int)half * 2 - 1));
        }
        put_f16(out, d);
        put_bytes(bytes, q[0], q[1], q[2], q[3]);
        if (size == 18) put_nibbles(out + 2, bytes);
        else put_five_bits(out + 2, out + 6, bytes);
    }
}

static inline void encode_q4_0(Unit *u) { encode_signed(u, 18, 8); }
static inline void encode_q5_0(Unit *u) { encode_signed(u, 22, 16); }

/* Q4_1 and Q5_1: from the least to the greatest element. */
static inline void encode_offset(Unit *u, int size, int top) {
    for (int i = 0; i < u->n; i++) {
        const float *x = u->x + 32 * i;
        uint8_t *out = u->out + size * i, bytes[32];
        F v[4];
        I q[4];
        for (int k = 0; k < 4; k++) v[k] = load(x + 8 * k);
        float max = largest(greater(greater(v[0], v[1]), greater(v[2], v[3])));
        float min = -largest(-lesser(lesser(v[0], v[1]), lesser(v[2], v[3])));
        if (min == 0) min = first_equal(x, v[0], v[1], v[2], v[3], 0); /* its sign is written */
        float d = max == min ? 0.0f : (max - min) / (float)top;
        F id = all(d != 0 ? 1.0f / d : 0.0f);
        for (int k = 0; k < 4; k++) {
            q[k] = truncated((v[k] - min) * id + 0.5f) & 0xff;
            if (top == 15) q[k] = lesser_i(q[k], all_i(15));
        }
        put_f16(out, d);
        put_f16(out + 2, min);
        put_bytes(bytes, q[0], q[1], q[2], q[3]);
        if (top == 15) put_nibbles(out + 4, bytes);
        else put_five_bits(out + 4, out + 8, bytes);
    }
}

static inline void encode_q4_1(Unit *u) { encode_offset(u, 20, 15); }
static inline void encode_q5_1(Unit *u) { encode_offset(u, 24, 31); }
