/* IQ4_NL and IQ4_XS: sixteen fixed levels and a scale, in blocks of 32; a block a lane in the search. */

static const float LEVELS[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* The nearest level and its number. ggml's best_index_int8 takes the upper of two from their middle on (the differences
 * that decide are exact), and the top one for NaN. */
static inline F nearest_level(F x, I *number) {
#ifdef NEMOTRON_AVX2
    /* By halves. A mask is -1, so positions count downwards, and tables are read at the position modulo 8. */
    const __m256 quarters = _mm256_setr_ps(-93.5f, 0, 0, 0, 0, 79, 19, -28.5f);
    const __m256 eighths = _mm256_setr_ps(-115.5f, 101, 61, 31.5f, 7, -16, -42, -74);
    const __m256 even = _mm256_setr_ps(-127, 89, 53, 25, 1, -22, -49, -83);
    const __m256 odd = _mm256_setr_ps(-104, 113, 69, 38, 13, -10, -35, -65);
    I half = ~(x < -4.5f);
    I at = half + half + ~(x < choose(half, all(45.5f), all(-57)));
    at = at + at + ~(x < (F)_mm256_permutevar8x32_ps(quarters, (__m256i)at));
    I last = ~(x < (F)_mm256_permutevar8x32_ps(eighths, (__m256i)at));
    *number = -(at + at + last);
    return choose(last, (F)_mm256_permutevar8x32_ps(odd, (__m256i)at), (F)_mm256_permutevar8x32_ps(even, (__m256i)at));
#else
    F level = all(LEVELS[0]);
    I count = all_i(0);
    for (int i = 1; i < 16; i++) {
        I above = ~(x < (LEVELS[i - 1] + LEVELS[i]) / 2);
        level += (F)(above & (I)all(LEVELS[i] - LEVELS[i - 1]));
        count -= above;
    }
    *number = count;
    return level;
#endif
}

/* The scales of two tiles of blocks. */
static inline void search_levels(F *scale, const F *x, const F *w) {
    F max[TILES], best[TILES], inverse[TILES];
    I empty[TILES], number;
    for (int t = 0; t < TILES; t++) {
        F amax = all(0);
        max[t] = best[t] = scale[t] = all(0);
        for (int i = t; i < 32 * TILES; i += TILES) {
            I more = absolute(x[i]) > amax;
            amax = choose(more, absolute(x[i]), amax);
            max[t] = choose(more, x[i], max[t]);
        }
        empty[t] = amax < 1e-15f;
    }
    for (int step = -8; step <= 7; step++) { /* -8: the plain scale, by another rounding than 0's */
        F sumqx[TILES], sumq2[TILES];
        for (int t = 0; t < TILES; t++) {
            inverse[t] = step == -8 ? 1.0f / (-max[t] / LEVELS[0]) : ((float)step + LEVELS[0]) / max[t];
            sumqx[t] = sumq2[t] = all(0);
        }
        for (int i = 0; i < 32 * TILES; i += TILES)
            for (int t = 0; t < TILES; t++) {
                F q = nearest_level(inverse[t] * x[i + t], &number), wq = w[i + t] * q;
                sumqx[t] += wq * x[i + t];
                sumq2[t] += wq * q;
            }
        for (int t = 0; t < TILES; t++) {
            F found = sumqx[t] / sumq2[t];
            I better = sumq2[t] > 0;
            if (step > -8) better &= sumqx[t] * sumqx[t] > best[t] * sumq2[t];
            scale[t] = choose(better, found, scale[t]);
            best[t] = choose(better, found * sumqx[t], best[t]);
            if (step == -8) best[t] = scale[t] * sumqx[t]; /* 0 * what it is, be it infinite */
        }
    }
    for (int t = 0; t < TILES; t++) scale[t] = choose(empty[t], all(0), scale[t]);
}

/* Scales of the blocks from `first` on. `mean` is 2 / n times the sum of squares of what n a scale is for: the block or
 * the super-block, one of each in a lane. */
static inline void search_level_blocks(float *scales, const Unit *u, int first, int weighted, int per_super,
                                       const float *mean) {
    F x[32 * TILES], w[32 * TILES], scale[TILES];
    float importance[32 * LANES * TILES];
    tiles_of(x, u->x + 32 * first, 32, TILES);
    if (weighted) {
        for (int i = 0; i < LANES * TILES; i++) {
            const float *from = u->importance[(first + i) / per_super] + (first + i) % per_super * 32;
            memcpy(importance + 32 * i, from, 32 * sizeof(float));
        }
        tiles_of(w, importance, 32, TILES);
    }
    for (int t = 0; t < TILES; t++) {
        F square = all(0);
        if (per_super == 1) {
            for (int i = t; i < 32 * TILES; i += TILES) square += x[i] * x[i];
            square = square * (2.0f / 32);
        } else {
            square = all(mean[(first + t * LANES) / per_super]);
        }
        for (int i = t; i < 32 * TILES; i += TILES) {
            if (weighted) w[i] = w[i] * root(square + x[i] * x[i]);
            else w[i] = x[i] * x[i];
        }
    }
    search_levels(scale, x, w);
    for (int t = 0; t < TILES; t++) store(scales + t * LANES, scale[t]);
}

static inline void put_levels(uint8_t *out, const float *x, float inverse) {
    B l[BYTES];
    I q[PER_BLOCK];
    for (int k = 0; k < PER_BLOCK; k++) nearest_level(inverse * load(x + LANES * k), &q[k]);
    for (int k = 0; k < (int)BYTES; k++) l[k] = bytes_of(q + 4 * k, 0);
    put_nibbles(out, l);
}

static inline void encode_iq4_nl_any(Unit *u, int weighted) {
    float scales[MAX_BLOCKS];
    for (int first = 0; first < u->n; first += LANES * TILES)
        search_level_blocks(scales + first, u, first, weighted, 1, 0);
    for (int i = 0; i < u->n; i++) {
        put_f16(u->out + 18 * i, scales[i]);
        put_levels(u->out + 18 * i + 2, u->x + 32 * i, scales[i] != 0 ? 1 / scales[i] : 0);
    }
}

static inline void encode_iq4_xs_any(Unit *u, int weighted) {
    float scales[8 * LANES], mean[LANES];
    for (int group = 0; group < u->n; group += LANES) {
        if (weighted) store(mean, square_sums(u->x + 256 * group) * (2.0f / 256));
        Unit part = *u;
        part.x += 256 * group;
        memmove(part.importance, u->importance + group, LANES * sizeof *part.importance);
        for (int first = 0; first < 8 * LANES; first += LANES * TILES)
            search_level_blocks(scales + first, &part, first, weighted, 8, mean);
        for (int s = 0; s < LANES && group + s < u->n; s++) {
            uint8_t *out = u->out + (group + s) * 136;
            float max = 0, most = 0;
            for (int j = 0; j < 8; j++) {
                float scale = scales[8 * s + j], a = scale < 0 ? -scale : scale;
                if (a > most) most = a, max = scale;
            }
            float d = -max / 32, inverse = d != 0 ? 1 / d : 0;
            unsigned high = 0;
            put_f16(out, d);
            memset(out + 4, 0, 4);
            for (int j = 0; j < 8; j++) {
                int l = nearest_1(inverse * scales[8 * s + j]);
                l = l < -32 ? -32 : l > 31 ? 31 : l;
                float scale = d * (float)l; /* not as F16 has it */
                put_levels(out + 8 + 16 * j, u->x + 256 * (group + s) + 32 * j, scale != 0 ? 1 / scale : 0);
                out[4 + j / 2] |= (uint8_t)(((l + 32) & 15) << j % 2 * 4);
                high |= (unsigned)(l + 32) >> 4 << 2 * j;
            }
            out[2] = (uint8_t)high;
            out[3] = (uint8_t)(high >> 8);
        }
    }
}

static void encode_iq4_nl(Unit *u) { encode_iq4_nl_any(u, 0); }
static void encode_iq4_xs(Unit *u) { encode_iq4_xs_any(u, 0); }
static void encode_iq4_nl_weighted(Unit *u) { encode_iq4_nl_any(u, 1); }
static void encode_iq4_xs_weighted(Unit *u) { encode_iq4_xs_any(u, 1); }
