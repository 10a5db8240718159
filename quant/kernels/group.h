/* What the searches work on and leave: tiles made of sub-blocks, results kept for each sub-block. */

enum { SUBS = 16 * LANES }; /* sub-blocks that are worked on together, at most */

typedef struct {
    float scale[SUBS], min[SUBS], weight[SUBS]; /* of each sub-block */
    float inverse[SUBS], low[SUBS];             /* whence its quants, should its quantized scale be 0 */
    int32_t empty[SUBS];
} Group;

/* Sums of squares of the group's super-blocks, each in its order. */
static inline F square_sums(const float *x) {
    F sum = all(0), tile[LANES];
    for (int i = 0; i < 256; i += LANES) {
        transpose(tile, x + i, 256);
        for (int k = 0; k < LANES; k++) sum += tile[k] * tile[k];
    }
    return sum;
}

/* Tiles of sub-blocks of n weights that lie one after another. */
static inline void tiles_of(F *x, const float *from, int n, int tiles) {
    F one[32];
    for (int t = 0; t < tiles; t++) {
        to_lanes(one, from + t * LANES * n, n);
        for (int i = 0; i < n; i++) x[i * tiles + t] = one[i];
    }
}

/* Importance times sqrt(mean square + x squared). */
static inline void weigh(F *w, const F *x, int n, const float *mean_square, int first, int per_block) {
    for (int t = 0; t < TILES; t++) {
        F mean = all(mean_square[(first + t * LANES) / per_block]);
        for (int i = t; i < n * TILES; i += TILES) w[i] = w[i] * root(mean + x[i] * x[i]);
    }
}

static inline void keep_found(Group *g, const Found *found, const F *w, int first, int n) {
    for (int t = 0; t < TILES; t++) {
        int at = first + t * LANES;
        F sum = all(0);
        for (int i = t; i < n * TILES; i += TILES) sum += w[i];
        store(g->weight + at, sum);
        store(g->scale + at, found[t].scale);
        store(g->min + at, found[t].min);
        store(g->inverse + at, found[t].inverse);
        store(g->low + at, found[t].low);
        memcpy(g->empty + at, &found[t].empty, sizeof(I));
    }
}

/* The quants of a sub-block: with the scales as they are stored, or where that is 0 as the search left them. */
static inline void quants(uint8_t *l, const float *x, int n, float d, float dm, const Group *g, int sub, int low,
                          int high) {
    I q[8];
    for (int i = 0; i < n; i += LANES) {
        F v = d != 0 ? (load(x + i) + dm) / d : g->inverse[sub] * (load(x + i) - g->low[sub]);
        q[i / LANES] = greater_i(all_i(low), lesser_i(all_i(high), nearest(v))) - low;
        if (d == 0) q[i / LANES] &= ~all_i(g->empty[sub]);
    }
    if (n == 16) {
        put_16_bytes(l, q);
    } else {
        for (int i = 0; i < 32; i += sizeof(B)) {
            B bytes = bytes_of(q + i / LANES, 0);
            memcpy(l + i, &bytes, sizeof bytes);
        }
    }
}

