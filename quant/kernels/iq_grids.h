/* IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S: groups of 8 or 4 magnitudes are points of a grid, under a scale for each
 * sub-block; signs go apart. A sub-block a lane, but for the errors of a point's neighbours: there a neighbour is a
 * lane. Whatever ggml does about a candidate's quants is done on their codes. */

#include "grid.h"

typedef struct {
    int type, size;         /* ggml's number, bytes of a super-block */
    int sub, group, bits;   /* weights of a sub-block and of a group, bits of a level */
    int parity;             /* an even number of minuses in eight: the eighth sign is not written */
    float least;            /* below it a sub-block is nothing */
    int candidates;         /* on either side */
    float step;             /* between them */
    float mean_factor;      /* of the mean square, under importance and without */
    float fudge;            /* of the written scale */
} Kind;

static const Kind IQ2XXS = {IQ2_XXS, 66, 32, 8, 2, 1, 1e-15f, 6, 0.1f, 1, 1};
static const Kind IQ2XS = {IQ2_XS, 74, 16, 8, 2, 1, 1e-15f, 9, 0.1f, 1, 1};
static const Kind IQ2S = {IQ2_S, 82, 16, 8, 2, 0, 1e-8f, 9, 0.1f, 2, 0.9875f};
static const Kind IQ3XXS = {IQ3_XXS, 98, 32, 4, 3, 1, 1e-8f, 15, 0.2f, 2, 1.0125f};
static const Kind IQ3S = {IQ3_S, 110, 32, 4, 3, 0, 0, 9, 0.2f, 2, 1.033f};

/* What is known of a tile: magnitudes, weights, their roots, and weights times magnitudes. */
typedef struct {
    F x[32], w[32], root_w[32], wx[32];
    I signs[4]; /* of eight weights */
} Tile;

#ifdef NEMOTRON_AVX2

/* The errors of eight codes, from a table of each weight's error at each level. */
INLINED F errors_of_eight(const F *table, const uint16_t *codes, const Kind k) {
    I field = (I)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)codes));
    F sum = all(0);
    for (int i = 0; i < k.group; i++, field >>= k.bits) {
        if (k.bits == 3) sum += (F)_mm256_permutevar8x32_ps((__m256)table[i], (__m256i)field);
        else sum += (F)_mm256_permutevar_ps((__m256)table[i], (__m256i)field);
    }
    return sum;
}

/* x and w are a lane of a tile. */
INLINED void level_errors(F *table, const float *x, const float *w, float scale, const Kind k) {
    const __m256 three = _mm256_setr_ps(1, 3, 5, 7, 9, 11, 13, 15), two = _mm256_setr_ps(1, 3, 5, 7, 1, 3, 5, 7);
    F levels = scale * (F)(k.bits == 3 ? three : two);
    for (int i = 0; i < k.group; i++) {
        F diff = levels - x[i * LANES];
        table[i] = w[i * LANES] * diff * diff;
    }
}

/* Of each lane's neighbours that with the least error, the first of equals. The first eight of all lanes are looked at
 * together, as most have no more. A point on the grid is its own and only neighbour. */
INLINED void nearest_on_grid(int32_t *codes, const Tile *tile, int at, const float *scales, const Kind k) {
    const Grid *grid = &nemotron_grids[k.type];
    const float *x = (const float *)(tile->x + at), *w = (const float *)(tile->root_w + at);
    const uint16_t *lists[LANES];
    F tables[LANES][8], sums[LANES], columns[LANES], least = all(FLT_MAX);
    I first = all_i(0);
    int32_t chosen[LANES];
    float least_of[LANES];
    unsigned longer = 0, off = k.bits == 3 ? (1 << LANES) - 1 : 0; /* IQ3: to tell takes longer than to search */
    for (int s = 0; s < LANES && k.bits == 2; s++) off |= (unsigned)(grid->index[codes[s]] < 0) << s;
    for (unsigned left = off; left; left &= left - 1) {
        int s = __builtin_ctz(left);
        lists[s] = grid->lists + grid->place[codes[s]];
        longer |= (unsigned)(lists[s][0] > 8) << s;
        level_errors(tables[s], x + s, w + s, scales[s], k);
        sums[s] = errors_of_eight(tables[s], lists[s] + 1, k);
    }
    transpose(columns, (const float *)sums, LANES);
    for (int j = 0; j < 8; j++) {
        I better = columns[j] < least;
        least = choose(better, columns[j], least);
        first = (I)choose(better, (F)all_i(j), (F)first);
    }
    memcpy(chosen, &first, sizeof first);
    store(least_of, least);
    for (; off; off &= off - 1) {
        int s = __builtin_ctz(off);
        codes[s] = lists[s][1 + chosen[s]];
    }
    for (; longer; longer &= longer - 1) {
        int s = __builtin_ctz(longer);
        for (int j = 8; j < lists[s][0]; j += 8) {
            F sum = errors_of_eight(tables[s], lists[s] + 1 + j, k);
            float here = -largest(-sum);
            if (!(here < least_of[s])) continue;
            least_of[s] = here;
            codes[s] = lists[s][1 + j + __builtin_ctz(bits(sum == here))];
        }
    }
}

#else

INLINED int best_neighbour(const uint16_t *list, const float *x, const float *w, float scale, const Kind k) {
    float error[8][8], best = FLT_MAX;
    int n = *list++, found = list[0];
    for (int i = 0; i < k.group; i++)
        for (int l = 0; l < (k.bits == 3 ? 8 : 3); l++) {
            float diff = scale * (float)(2 * l + 1) - x[i * LANES];
            error[i][l] = w[i * LANES] * diff * diff;
        }
    for (int j = 0; j < n; j++) {
        unsigned field = list[j];
        float sum = 0;
        for (int i = 0; i < k.group; i++, field >>= k.bits) sum += error[i][field & ((1u << k.bits) - 1)];
        if (sum < best) best = sum, found = list[j];
    }
    return found;
}

INLINED void nearest_on_grid(int32_t *codes, const Tile *tile, int at, const float *scales, const Kind k) {
    const Grid *grid = &nemotron_grids[k.type];
    const float *x = (const float *)(tile->x + at), *w = (const float *)(tile->root_w + at);
    for (int s = 0; s < LANES; s++)
        if (grid->index[codes[s]] < 0)
            codes[s] = best_neighbour(grid->lists + grid->place[codes[s]], x + s, w + s, scales[s], k);
}

#endif

/* The codes of a group for a scale, and those of the points on the grid that are taken for them. */
INLINED I put_on_grid(I *before, const Tile *tile, int at, F inverse, F scale, const Kind k) {
    int32_t codes[LANES];
    float scales[LANES];
    I code = all_i(0);
    for (int i = 0; i < k.group; i++) {
        I l = nearest(0.5f * (inverse * tile->x[at + i] - 1));
        code |= greater_i(all_i(0), lesser_i(all_i(k.bits == 3 ? 7 : 2), l)) << k.bits * i;
    }
    *before = code;
    memcpy(codes, &code, sizeof code);
    store(scales, scale);
    nearest_on_grid(codes, tile, at, scales, k);
    memcpy(&code, codes, sizeof code);
    return code;
}

/* The level of the lowest field of a code. */
INLINED F level(I code, int bits) {
#ifdef NEMOTRON_AVX2
    if (bits == 3) return (F)_mm256_permutevar8x32_ps(_mm256_setr_ps(1, 3, 5, 7, 9, 11, 13, 15), (__m256i)code);
    return (F)_mm256_permutevar_ps(_mm256_setr_ps(1, 3, 5, 7, 1, 3, 5, 7), (__m256i)code);
#else
    return to_float((code & ((1 << bits) - 1)) * 2 + 1);
#endif
}

INLINED void sums(F *sumqx, F *sumq2, const Tile *tile, const I *codes, const Kind k) {
    F qx = all(0), q2 = all(0);
    for (int g = 0; g < k.sub / k.group; g++) {
        I code = codes[g];
        for (int i = g * k.group; i < (g + 1) * k.group; i++, code >>= k.bits) {
            F q = level(code, k.bits);
            qx += tile->wx[i] * q;
            q2 += tile->w[i] * q * q;
        }
    }
    *sumqx = qx;
    *sumq2 = q2;
}

/* Splits signs from magnitudes. With `parity` an odd number of minuses becomes even where it matters least. */
INLINED void split_signs(Tile *tile, const Kind k) {
    for (int e = 0; e < k.sub; e += 8) {
        I signs = all_i(0), odd = all_i(0), place = all_i(0);
        F least = all(0);
        for (int i = 0; i < 8; i++) {
            F x = tile->x[e + i], matter = tile->w[e + i] * x * x;
            I minus = x < 0, less = i ? matter < least : all_i(-1);
            signs |= minus & (1 << i);
            odd ^= minus;
            least = choose(less, matter, least);
            place = (less & i) | (~less & place);
            tile->x[e + i] = absolute(x);
        }
        for (int i = 0; i < 8 && k.parity; i++) {
            I turn = odd & (place == i);
            tile->x[e + i] = (F)((I)tile->x[e + i] ^ (turn & INT32_MIN));
            signs ^= turn & (1 << i);
        }
        tile->signs[e / 8] = signs;
    }
}

/* The scales and codes of a tile; a scale of 0 and codes of -1 where a sub-block is nothing. */
INLINED F search_grid(I *codes, Tile *tile, const Kind k) {
    const int groups = k.sub / k.group, top = k.bits == 3 ? 15 : 5;
    F max = tile->x[0], best = all(0), sumqx, sumq2, scale;
    I on_grid[8], before[8], fresh[8], unused[32];
    for (int i = 1; i < k.sub; i++) max = greater(max, tile->x[i]);
    for (int g = 0; g < groups; g++) codes[g] = all_i(0), on_grid[g] = all_i(k.type == IQ3_S ? 0 : -1);
    I empty = k.type == IQ3_S ? max == 0 : max < k.least;
    if (k.type == IQ2_XXS) {
        scale = search_positive(unused, tile->x, tile->w, 32, 4);
        max = scale * 3.0f;
        empty |= max <= 0;
    } else {
        scale = max / (float)top;
    }
    for (int is = -k.candidates; is <= k.candidates; is++) {
        F inverse = ((float)top + (float)is * k.step) / max;
        for (int g = 0; g < groups; g++)
            fresh[g] = put_on_grid(&before[g], tile, g * k.group, inverse, 1.0f / inverse, k);
        sums(&sumqx, &sumq2, tile, fresh, k);
        I better = (sumq2 > 0) & (sumqx * sumqx > best * sumq2);
        scale = choose(better, sumqx / sumq2, scale);
        best = choose(better, scale * sumqx, best);
        for (int g = 0; g < groups; g++) {
            codes[g] = (I)choose(better, (F)fresh[g], (F)codes[g]);
            on_grid[g] = (I)choose(better, (F)(fresh[g] == before[g]), (F)on_grid[g]);
        }
    }
    /* once more with the scale that was found, for what was not on the grid */
    I again = all_i(k.type == IQ2_XXS ? -1 : 0);
    for (int g = 0; g < groups; g++) again |= ~on_grid[g];
    again &= (scale > 0) & ~empty;
    F inverse = 1.0f / scale;
    for (int g = 0; g < groups; g++) {
        I moves = k.type == IQ2_XXS || k.type == IQ3_S ? again : again & ~on_grid[g];
        I code = put_on_grid(&before[g], tile, g * k.group, inverse, scale, k);
        codes[g] = (I)choose(moves, (F)code, (F)codes[g]) | empty;
    }
    sums(&sumqx, &sumq2, tile, codes, k);
    scale = choose(again & (sumq2 > 0), sumqx / sumq2, scale);
    I minus = (scale < 0) & ~empty;
    for (int e = 0; e < k.sub / 8; e++) tile->signs[e] ^= minus & (k.parity ? 127 : 255);
    return choose(empty, all(0), choose(minus, -scale, scale));
}

/* Magnitudes and weights of the tile of sub-blocks from `first` on. */
INLINED void load_tile(Tile *tile, const Unit *u, int group, int first, const float *mean, int weighted, const Kind k) {
    const int per_block = 256 / k.sub, block = first / per_block;
    to_lanes(tile->x, u->x + 256 * group + first * k.sub, k.sub);
    if (weighted) to_lanes(tile->w, u->importance[group + block] + first % per_block * k.sub, k.sub);
    for (int i = 0; i < k.sub; i++) {
        F square = tile->x[i] * tile->x[i];
        if (weighted) tile->w[i] *= root(mean[block] + square);
        else tile->w[i] = k.type == IQ2_S ? 0.25f * mean[block] + square : square;
        tile->root_w[i] = root(tile->w[i]);
    }
    split_signs(tile, k);
    for (int i = 0; i < k.sub; i++) tile->wx[i] = tile->w[i] * tile->x[i];
}

/* A super-block's sub-blocks: scales, grid indices (-1 for nothing) and sign bytes. */
typedef struct {
    float scale[SUBS];
    int index[SUBS * 8];
    uint8_t signs[SUBS * 4];
} Points;

INLINED void search_points(Points *points, const Unit *u, int group, int weighted, const Kind k) {
    const int groups = k.sub / k.group, eights = k.sub / 8;
    float mean[LANES];
    Tile tile;
    I codes[8];
    store(mean, k.mean_factor * square_sums(u->x + 256 * group) / 256.0f);
    for (int first = 0; first < 256 / k.sub * LANES; first += LANES) {
        load_tile(&tile, u, group, first, mean, weighted, k);
        store(points->scale + first, search_grid(codes, &tile, k));
        for (int s = 0; s < LANES; s++) {
            for (int g = 0; g < groups; g++) {
                int code = codes[g][s];
                points->index[(first + s) * groups + g] = code < 0 ? -1 : nemotron_grids[k.type].index[code];
            }
            for (int e = 0; e < eights; e++) points->signs[(first + s) * eights + e] = (uint8_t)tile.signs[e][s];
        }
    }
}

/* Writes the indices and signs of a super-block, all zero before; the scales are to come. */
INLINED void put_points(uint8_t *out, const int *index, const uint8_t *signs, const Kind k) {
    int shift = 0; /* IQ3_S: sub-blocks that are nothing take no place, those behind them move up, not so high bits */
    for (int sub = 0; sub < 256 / k.sub; sub++) {
        const int *at = index + sub * (k.sub / k.group);
        const uint8_t *sign = signs + sub * (k.sub / 8);
        if (at[0] < 0) {
            shift++;
            continue;
        }
        uint32_t word = 0;
        for (int e = 0; e < k.sub / 8; e++) word |= (uint32_t)(sign[e] & 127) << 7 * e;
        for (int g = 0; g < k.sub / k.group; g++) {
            uint8_t low = (uint8_t)at[g];
            int place = sub * (k.sub / k.group) + g, high = at[g] >> 8;
            if (k.type == IQ2_XXS) out[2 + 8 * sub + g] = low;
            if (k.type == IQ3_XXS) out[2 + place] = low;
            if (k.type == IQ2_XS) out[2 + 2 * place] = low, out[3 + 2 * place] = (uint8_t)(high | (sign[g] & 127) << 1);
            if (k.type == IQ2_S) {
                out[2 + place] = low;
                out[34 + place] = sign[g];
                out[66 + place / 4] |= (uint8_t)(high << 2 * (place % 4));
            }
            if (k.type == IQ3_S) {
                out[2 + 8 * (sub - shift) + g] = low;
                out[66 + place / 8] |= (uint8_t)(high << place % 8);
            }
        }
        if (k.type == IQ3_S) memcpy(out + 74 + 4 * (sub - shift), sign, 4);
        if (k.type == IQ2_XXS) memcpy(out + 6 + 8 * sub, &word, 4);
        if (k.type == IQ3_XXS) memcpy(out + 66 + 4 * sub, &word, 4);
    }
}

/* Writes the scales of a super-block: four bits each, in the top of a word of signs or in bytes of their own. */
INLINED void put_scales(uint8_t *out, const float *scales, const Kind k) {
    float max = 0;
    for (int j = 0; j < 256 / k.sub; j++) max = max > scales[j] ? max : scales[j];
    if (max == 0) { /* IQ2_S and IQ3_S leave their points as they are */
        if (k.parity) memset(out, 0, (size_t)k.size);
        return;
    }
    float d = max / 31, inverse = 1 / d;
    put_f16(out, d * k.fudge);
    for (int j = 0; j < 256 / k.sub; j++) {
        int l = nearest_1(0.5f * (inverse * scales[j] - 1));
        l = l < 0 ? 0 : l > 15 ? 15 : l;
        if (k.type == IQ2_XXS) out[9 + 8 * j] |= (uint8_t)(l << 4);
        else if (k.type == IQ3_XXS) out[69 + 4 * j] |= (uint8_t)(l << 4);
        else out[k.size - 128 / k.sub + j / 2] |= (uint8_t)(l << j % 2 * 4);
    }
}

INLINED void encode_grid(Unit *u, int weighted, const Kind k) {
    const int per_block = 256 / k.sub;
    for (int group = 0; group < u->n; group += LANES) {
        Points points;
        search_points(&points, u, group, weighted, k);
        for (int s = 0; s < LANES && group + s < u->n; s++) {
            uint8_t *out = u->out + (group + s) * k.size;
            memset(out, 0, (size_t)k.size);
            put_points(out, points.index + s * 256 / k.group, points.signs + s * 32, k);
            put_scales(out, points.scale + s * per_block, k);
        }
    }
}

/* One function a type serves both, so that each is compiled once with its constants. */
static void encode_iq2_xxs(Unit *u) { encode_grid(u, u->importance[0] != 0, IQ2XXS); }
static void encode_iq2_xs(Unit *u) { encode_grid(u, u->importance[0] != 0, IQ2XS); }
static void encode_iq2_s(Unit *u) { encode_grid(u, u->importance[0] != 0, IQ2S); }
static void encode_iq3_xxs(Unit *u) { encode_grid(u, u->importance[0] != 0, IQ3XXS); }
static void encode_iq3_s(Unit *u) { encode_grid(u, u->importance[0] != 0, IQ3S); }
