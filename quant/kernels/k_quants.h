/* Q2_K, Q4_K, Q5_K (scale and minimum) and Q3_K, Q6_K (scale alone): super-blocks of 256 in sub-blocks of 32 or 16,
 * whose scales are quantized in turn. Worked on as many super-blocks at a time as there are lanes: the searches take a
 * sub-block a lane, and those over a super-block's scales a super-block a lane. */

/* The importance of the tiles at sub-block `first` of a group. */
static inline void importance_tiles(F *w, const Unit *u, int group, int first, int n) {
    F one[32];
    const int per_block = 256 / n;
    for (int t = 0; t < TILES; t++) {
        int sub = first + t * LANES;
        to_lanes(one, u->importance[group + sub / per_block] + sub % per_block * n, n);
        for (int i = 0; i < n; i++) w[i * TILES + t] = one[i];
    }
}

/* Six-bit scales and minima of Q4_K and Q5_K in 12 bytes. */
static inline void pack_six(uint8_t *out, const uint8_t *ls, const uint8_t *lm) {
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(ls[j] | ls[j + 4] >> 4 << 6);
        out[j + 4] = (uint8_t)(lm[j] | lm[j + 4] >> 4 << 6);
        out[j + 8] = (uint8_t)((ls[j + 4] & 15) | (lm[j + 4] & 15) << 4);
    }
}

static inline void unpack_six(uint8_t *ls, uint8_t *lm, const uint8_t *in) {
    for (int j = 0; j < 4; j++) {
        ls[j] = in[j] & 63;
        lm[j] = in[j + 4] & 63;
        ls[j + 4] = (uint8_t)((in[j + 8] & 15) | in[j] >> 6 << 4);
        lm[j + 4] = (uint8_t)(in[j + 8] >> 4 | in[j + 4] >> 6 << 4);
    }
}

/* Four quants of 2 bits in a byte, 32 apart. */
static inline void pack_two(uint8_t *out, const uint8_t *l) {
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 32; i++) {
            const uint8_t *q = l + 128 * j + i;
            out[32 * j + i] = (uint8_t)(q[0] | q[32] << 2 | q[64] << 4 | q[96] << 6);
        }
}

typedef struct {
    int size, sub;              /* bytes of a super-block, weights of a sub-block */
    int top, scale_top;         /* largest quant, largest quantized scale */
    float rmin, rdelta;         /* candidates without importance */
    int nstep, mad;
    int mean_factor;            /* of the mean square under importance */
} Offset;

static const Offset Q2K = {84, 16, 3, 15, -0.5f, 0.1f, 15, 1, 1};
static const Offset Q4K = {144, 32, 15, 63, -1.0f, 0.1f, 20, 0, 2};
static const Offset Q5K = {176, 32, 31, 63, -0.5f, 0.1f, 15, 0, 2};

/* Scales and minima of a group's sub-blocks. */
static inline void search_group_offset(Group *g, const Unit *u, int group, const Offset k, int weighted) {
    const float *from = u->x + 256 * group;
    const int per_block = 256 / k.sub;
    float mean[LANES];
    F x[32 * TILES], w[32 * TILES];
    Found found[TILES];
    if (weighted) store(mean, (float)k.mean_factor * square_sums(from) / 256.0f);
    for (int first = 0; first < per_block * LANES; first += TILES * LANES) {
        tiles_of(x, from + first * k.sub, k.sub, TILES);
        if (weighted) {
            importance_tiles(w, u, group, first, k.sub);
            weigh(w, x, k.sub, mean, first, per_block);
            search_offset(found, x, w, k.sub, (float)k.top, -0.9f, 0.05f, 36, 0);
        } else {
            for (int t = 0; t < TILES; t++) {
                F average = all(0); /* Q2_K weighs by |x| alone */
                if (!k.mad) {
                    for (int i = t; i < k.sub * TILES; i += TILES) average += x[i] * x[i];
                    average = root(average / (float)k.sub);
                }
                for (int i = t; i < k.sub * TILES; i += TILES) w[i] = average + absolute(x[i]);
            }
            search_offset(found, x, w, k.sub, (float)k.top, k.rmin, k.rdelta, k.nstep, k.mad);
        }
        keep_found(g, found, w, first, k.sub);
    }
}

/* The quantized scales of each super-block, and the scale of these: under importance by a search of its own. */
static inline void search_scales(uint8_t *l, float *d, const float *scales, const float *weights, int n, int top) {
    F x[16], w[16];
    I q[16];
    to_lanes(x, scales, n);
    to_lanes(w, weights, n);
    store(d, search_positive(q, x, w, n, top));
    for (int i = 0; i < n; i++)
        for (int s = 0; s < LANES; s++) l[s * n + i] = (uint8_t)q[i][s];
}

static inline void divide_scales(uint8_t *l, float *d, const float *scales, int n, int top) {
    for (int s = 0; s < LANES; s++) {
        float max = 0;
        for (int j = 0; j < n; j++)
            if (scales[s * n + j] > max) max = scales[s * n + j];
        float inverse = max > 0 ? (float)top / max : 0.0f;
        d[s] = max / (float)top;
        for (int j = 0; j < n; j++) {
            uint8_t q = (uint8_t)nearest_1(inverse * scales[s * n + j]); /* a negative scale wraps */
            l[s * n + j] = top == 63 && q > 63 ? 63 : q;
        }
    }
}

/* Writes the scales of a super-block; `sc` and `mn` become what can be read of them, should one have wrapped. */
static inline void put_scales_k(uint8_t *out, uint8_t *sc, uint8_t *mn, const Offset k) {
    if (k.sub == 16) {
        for (int j = 0; j < 16; j++) {
            out[j] = (uint8_t)(sc[j] | mn[j] << 4);
            sc[j] = out[j] & 15, mn[j] = out[j] >> 4;
        }
        return;
    }
    if (k.top == 31)
        for (int j = 0; j < 8; j++) sc[j] = sc[j] < 63 ? sc[j] : 63, mn[j] = mn[j] < 63 ? mn[j] : 63;
    pack_six(out + 4, sc, mn);
    unpack_six(sc, mn, out + 4);
}

/* Writes the quants of a super-block: of 2 bits, of 4, or of 5 with the fifth bits first. */
static inline void put_quants_k(uint8_t *out, const uint8_t *l, const Offset k) {
    if (k.sub == 16) {
        pack_two(out + 16, l);
        return;
    }
    uint8_t *low = out + (k.top == 15 ? 16 : 48);
    for (int i = 0; i < 32 && k.top == 31; i++) {
        unsigned high = 0;
        for (int j = 0; j < 8; j++) high |= (unsigned)(l[32 * j + i] >> 4) << j;
        out[16 + i] = (uint8_t)high;
    }
    for (int j = 0; j < 128; j++) {
        const uint8_t *q = l + j / 32 * 64 + j % 32;
        low[j] = (uint8_t)((q[0] & 15) | (q[32] & 15) << 4);
    }
}

static inline void encode_offset_k(Unit *u, const Offset k, int weighted) {
    const int per_block = 256 / k.sub;
    for (int group = 0; group < u->n; group += LANES) {
        Group g;
        uint8_t ls[SUBS], lm[SUBS];
        float d[LANES], dm[LANES];
        search_group_offset(&g, u, group, k, weighted);
        if (weighted) {
            search_scales(ls, d, g.scale, g.weight, per_block, k.scale_top);
            search_scales(lm, dm, g.min, g.weight, per_block, k.scale_top);
        } else {
            divide_scales(ls, d, g.scale, per_block, k.scale_top);
            divide_scales(lm, dm, g.min, per_block, k.scale_top);
        }
        for (int s = 0; s < LANES && group + s < u->n; s++) {
            uint8_t *out = u->out + (group + s) * k.size, *sc = ls + s * per_block, *mn = lm + s * per_block, l[256];
            uint8_t *at = k.sub == 16 ? out + 80 : out; /* Q2_K has its two scales at the end */
            put_f16(at, d[s]);
            put_f16(at + 2, dm[s]);
            put_scales_k(out, sc, mn, k);
            for (int j = 0; j < per_block; j++)
                quants(l + j * k.sub, u->x + 256 * (group + s) + j * k.sub, k.sub, get_f16(at) * (float)sc[j],
                       get_f16(at + 2) * (float)mn[j], &g, s * per_block + j, 0, k.top);
            put_quants_k(out, l, k);
        }
    }
}

static void encode_q2_k(Unit *u) { encode_offset_k(u, Q2K, 0); }
static void encode_q4_k(Unit *u) { encode_offset_k(u, Q4K, 0); }
static void encode_q5_k(Unit *u) { encode_offset_k(u, Q5K, 0); }
static void encode_q2_k_weighted(Unit *u) { encode_offset_k(u, Q2K, 1); }
static void encode_q4_k_weighted(Unit *u) { encode_offset_k(u, Q4K, 1); }
static void encode_q5_k_weighted(Unit *u) { encode_offset_k(u, Q5K, 1); }

/* Q3_K and Q6_K: fills `g` with the scales of a group's sub-blocks of 16. */
static inline void search_group_signed(Group *g, const Unit *u, int group, int half, int weighted) {
    const float *from = u->x + 256 * group;
    float mean[LANES];
    F x[16 * TILES], w[16 * TILES];
    Found found[TILES];
    if (half == 4) store(mean, 2 * square_sums(from) / 256.0f);
    for (int first = 0; first < SUBS; first += TILES * LANES) {
        tiles_of(x, from + first * 16, 16, TILES);
        if (weighted) importance_tiles(w, u, group, first, 16);
        else
            for (int i = 0; i < 16 * TILES; i++) w[i] = x[i] * x[i];
        if (half == 4) weigh(w, x, 16, mean, first, 16); /* Q6_K takes importance as it is */
        search_signed(found, x, w, 16, (float)half, 0, TILES);
        keep_found(g, found, w, first, 16);
    }
}

/* The scale farthest from zero, the first of equals. */
static inline float farthest(const float *scales) {
    float most = 0, found = 0;
    for (int j = 0; j < 16; j++) {
        float a = scales[j] < 0 ? -scales[j] : scales[j];
        if (a > most) most = a, found = scales[j];
    }
    return found;
}

static inline void encode_q6_k_any(Unit *u, int weighted) {
    for (int group = 0; group < u->n; group += LANES) {
        Group g;
        search_group_signed(&g, u, group, 32, weighted);
        for (int s = 0; s < LANES && group + s < u->n; s++) {
            uint8_t *out = u->out + (group + s) * 210, l[256];
            float max = farthest(g.scale + 16 * s);
            if ((max < 0 ? -max : max) < 1e-15f) {
                memset(out, 0, 210);
                continue;
            }
            float inverse = -128.0f / max;
            put_f16(out + 208, 1 / inverse);
            for (int j = 0; j < 16; j++) {
                int q = nearest_1(inverse * g.scale[16 * s + j]);
                int8_t scale = (int8_t)(q < 127 ? q : 127);
                out[192 + j] = (uint8_t)scale;
                float d = get_f16(out + 208) * (float)scale;
                quants(l + 16 * j, u->x + 256 * (group + s) + 16 * j, 16, d, 0, &g, 16 * s + j, -32, 31);
            }
            for (int h = 0; h < 2; h++)
                for (int i = 0; i < 32; i++) {
                    const uint8_t *q = l + 128 * h + i;
                    out[64 * h + i] = (uint8_t)((q[0] & 15) | q[64] << 4);
                    out[64 * h + 32 + i] = (uint8_t)((q[32] & 15) | q[96] << 4);
                    out[128 + 32 * h + i] = (uint8_t)(q[0] >> 4 | q[32] >> 4 << 2 | q[64] >> 4 << 4 | q[96] >> 4 << 6);
                }
        }
    }
}

/* The sixteen six-bit scales of Q3_K in 12 bytes: low halves, then the high two bits of four at a time. */
static inline void pack_q3_scales(uint8_t *out, const uint8_t *l) {
    for (int j = 0; j < 8; j++) out[j] = (uint8_t)((l[j] & 15) | (l[j + 8] & 15) << 4);
    for (int j = 0; j < 4; j++)
        out[j + 8] = (uint8_t)(l[j] >> 4 | l[j + 4] >> 4 << 2 | l[j + 8] >> 4 << 4 | l[j + 12] >> 4 << 6);
}

/* The scales of a super-block of Q3_K and their scale, by division. */
static inline float divide_q3_scales(uint8_t *l, const float *scales) {
    float max = farthest(scales), inverse = -32.0f / max;
    for (int j = 0; j < 16; j++) {
        int8_t q = max != 0 ? (int8_t)nearest_1(inverse * scales[j]) : -32;
        l[j] = (uint8_t)((q < -32 ? -32 : q > 31 ? 31 : q) + 32);
    }
    return max != 0 ? 1 / inverse : 0.0f;
}

/* The same of a group, by a search of its own. */
static inline void search_q3_scales(uint8_t *l, float *d, const Group *g) {
    F x[16], w[16];
    Found found;
    to_lanes(x, g->scale, 16);
    to_lanes(w, g->weight, 16);
    search_signed(&found, x, w, 16, 32, 1, 1);
    store(d, found.scale);
    for (int j = 0; j < 16; j++) {
        F q = nearest_within(found.inverse * x[j], -32, 31, 1) + 32;
        I of_all = truncated(choose(found.empty, all(0), q)); /* 0, not 32, where all scales are nothing */
        for (int s = 0; s < LANES; s++) l[16 * s + j] = (uint8_t)of_all[s];
    }
}

static inline void put_q3_k(uint8_t *out, const uint8_t *l, const uint8_t *scales, float d) {
    uint8_t low[256];
    put_f16(out + 108, d);
    pack_q3_scales(out + 96, scales);
    for (int i = 0; i < 32; i++) {
        unsigned high = 0;
        for (int j = 0; j < 8; j++) high |= (unsigned)(l[32 * j + i] >> 2) << j;
        out[i] = (uint8_t)high;
    }
    for (int j = 0; j < 256; j++) low[j] = l[j] & 3;
    pack_two(out + 32, low);
}

static void encode_q3_k(Unit *u) {
    float scales[MAX_UNIT / 16];
    search_moving(scales, u->x, (u->n + LANES - 1) / LANES * LANES * 16);
    for (int s = 0; s < u->n; s++) {
        uint8_t ls[16], l[256];
        const float *x = u->x + 256 * s, d = divide_q3_scales(ls, scales + 16 * s), stored = from_f16(to_f16(d));
        for (int j = 0; j < 16; j++) {
            float scale = stored * (float)(ls[j] - 32);
            if (scale == 0) moved_quants(l + 16 * j, x + 16 * j);
            else quants(l + 16 * j, x + 16 * j, 16, scale, 0, 0, 0, -4, 3);
        }
        put_q3_k(u->out + 110 * s, l, ls, d);
    }
}

static void encode_q3_k_weighted(Unit *u) {
    for (int group = 0; group < u->n; group += LANES) {
        Group g;
        float d[LANES];
        uint8_t ls[SUBS], l[256];
        search_group_signed(&g, u, group, 4, 1);
        search_q3_scales(ls, d, &g);
        for (int s = 0; s < LANES && group + s < u->n; s++) {
            const float *x = u->x + 256 * (group + s), stored = from_f16(to_f16(d[s]));
            for (int j = 0; j < 16; j++)
                quants(l + 16 * j, x + 16 * j, 16, stored * (float)(ls[16 * s + j] - 32), 0, &g, 16 * s + j, -4, 3);
            put_q3_k(u->out + 110 * (group + s), l, ls + 16 * s, d[s]);
        }
    }
}

static void encode_q6_k(Unit *u) { encode_q6_k_any(u, 0); }
static void encode_q6_k_weighted(Unit *u) { encode_q6_k_any(u, 1); }
