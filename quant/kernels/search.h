/* The searches for the best scale, one sub-block a lane. Element i of the lanes' sub-blocks is x[i * TILES + t], for
 * some tiles t at a time: they keep the adders busy that one tile, waiting for its own sums, would leave idle. */

enum { TILES = 4 };

/* Where the quants of a sub-block come from: of the best candidate, kept instead of the quants themselves. */
typedef struct {
    F scale, min;       /* the result */
    F inverse, low;     /* l = nearest(inverse * (x - low)) */
    I empty;            /* all quants are 0 */
} Found;

/* ggml's make_qkx2_quants and make_qkx3_quants: x ~ scale * l + min, 0 <= l <= top. A candidate starts from the
 * minimum that the best one so far has left, so `max - min` and `x - min` change on the way. */
static inline void search_offset(Found *found, const F *x, const F *w, int n, float top, float rmin, float rdelta,
                                 int nstep, int mad) {
    F min[TILES], max[TILES], sum_w[TILES], sum_x[TILES], best[TILES], least[TILES];
    F l[32 * TILES];
    for (int t = 0; t < TILES; t++) {
        best[t] = all(0);
        min[t] = max[t] = x[t];
        sum_w[t] = w[t];
        sum_x[t] = w[t] * x[t];
        for (int i = 1; i < n; i++) {
            F v = x[i * TILES + t], wi = w[i * TILES + t];
            min[t] = lesser(v, min[t]);
            max[t] = greater(v, max[t]);
            sum_w[t] += wi;
            sum_x[t] += wi * v;
        }
        least[t] = min[t];
        min[t] = choose(min[t] > 0, all(0), min[t]);
        found[t].empty = max[t] == min[t];
    }
    for (int step = -1; step <= nstep; step++) { /* -1: the plain range, without a fit */
        F inverse[TILES], sum_l[TILES], sum_l2[TILES], sum_xl[TILES], scale[TILES], low[TILES], error[TILES];
        I fits[TILES];
        unsigned wild = 0, any = 0;
        for (int t = 0; t < TILES; t++) {
            inverse[t] = (step < 0 ? top : rmin + rdelta * (float)step + top) / (max[t] - min[t]);
            F reach = greater(absolute(max[t] - min[t]), absolute(least[t] - min[t]));
            wild |= bits(~(absolute(inverse[t]) * reach < 4e6f) & ~found[t].empty);
            sum_l[t] = sum_l2[t] = sum_xl[t] = error[t] = all(0);
        }
        if (!wild) {
            for (int i = 0; i < n; i++)
                for (int t = 0; t < TILES; t++)
                    l[i * TILES + t] = nearest_within(inverse[t] * (x[i * TILES + t] - min[t]), 0, top, 0);
        } else {
            for (int i = 0; i < n; i++)
                for (int t = 0; t < TILES; t++)
                    l[i * TILES + t] = nearest_within(inverse[t] * (x[i * TILES + t] - min[t]), 0, top, 1);
        }
        if (step < 0) {
            for (int t = 0; t < TILES; t++) scale[t] = 1.0f / inverse[t], low[t] = min[t], fits[t] = all_i(-1);
        } else {
            for (int i = 0; i < n; i++)
                for (int t = 0; t < TILES; t++) {
                    F q = l[i * TILES + t], wl = w[i * TILES + t] * q;
                    sum_l[t] += wl;
                    sum_l2[t] += wl * q;
                    sum_xl[t] += wl * x[i * TILES + t];
                }
            for (int t = 0; t < TILES; t++) {
                F det = sum_w[t] * sum_l2[t] - sum_l[t] * sum_l[t];
                fits[t] = det > 0;
                scale[t] = (sum_w[t] * sum_xl[t] - sum_x[t] * sum_l[t]) / det;
                low[t] = (sum_l2[t] * sum_x[t] - sum_l[t] * sum_xl[t]) / det;
                I above = low[t] > 0;
                scale[t] = choose(above, sum_xl[t] / sum_l2[t], scale[t]);
                low[t] = choose(above, all(0), low[t]);
                any |= bits(fits[t]);
            }
            if (!any) continue;
        }
        for (int i = 0; i < n; i++)
            for (int t = 0; t < TILES; t++) {
                F diff = scale[t] * l[i * TILES + t] + low[t] - x[i * TILES + t];
                diff = mad ? absolute(diff) : diff * diff;
                error[t] += w[i * TILES + t] * diff;
            }
        for (int t = 0; t < TILES; t++) {
            I better = step < 0 ? fits[t] : fits[t] & (error[t] < best[t]);
            best[t] = step < 0 ? error[t] : choose(better, error[t], best[t]);
            found[t].scale = step < 0 ? scale[t] : choose(better, scale[t], found[t].scale);
            found[t].inverse = step < 0 ? inverse[t] : choose(better, inverse[t], found[t].inverse);
            found[t].low = step < 0 ? min[t] : choose(better, min[t], found[t].low);
            min[t] = choose(better & ~found[t].empty, low[t], min[t]);
        }
    }
    for (int t = 0; t < TILES; t++) {
        found[t].scale = choose(found[t].empty, all(0), found[t].scale);
        found[t].min = -min[t];
    }
}

/* One candidate's sums. Where |v| < half + 0.45 it cannot fall below -half: `low` says whether it may. */
INLINED void signed_sums(F *sumlx, F *suml2, const F *x, const F *w, const F *wx, const F *inverse, int n, float half,
                         int low, int exact, int tiles) {
    for (int t = 0; t < tiles; t++) sumlx[t] = suml2[t] = all(0);
    for (int i = 0; i < n * tiles; i += tiles)
        for (int t = 0; t < tiles; t++) {
            F v = inverse[t] * x[i + t];
            F l = low || exact ? nearest_within(v, -half, half - 1, exact) : lesser(all(half - 1), nearest_f(v));
            sumlx[t] += wx[i + t] * l;
            suml2[t] += w[i + t] * l * l;
        }
}

/* ggml's make_qx_quants of rmse_type 1: x ~ scale * l, -half <= l < half, with weights `w`, `tiles`
 * tiles at a time. */
INLINED void search_signed(Found *found, const F *x, const F *w, int n, float half, int exact, int tiles) {
    F max[TILES], best[TILES], wx[32 * TILES];
    for (int t = 0; t < tiles; t++) {
        F amax = all(0);
        max[t] = best[t] = all(0);
        for (int i = 0; i < n; i++) {
            F v = x[i * tiles + t], a = absolute(v);
            I more = a > amax;
            amax = choose(more, a, amax);
            max[t] = choose(more, v, max[t]);
            wx[i * tiles + t] = w[i * tiles + t] * v;
        }
        found[t].empty = amax < 1e-15f;
        found[t].low = found[t].min = all(0);
    }
    for (int is = -10; is <= 9; is++) { /* -10: the plain range */
        if (is == 0) continue;
        F inverse[TILES], sumlx[TILES], suml2[TILES];
        for (int t = 0; t < tiles; t++) inverse[t] = -(is == -10 ? half : half + 0.1f * (float)is) / max[t];
        if (is < 5) signed_sums(sumlx, suml2, x, w, wx, inverse, n, half, 0, exact, tiles);
        else signed_sums(sumlx, suml2, x, w, wx, inverse, n, half, 1, exact, tiles);
        for (int t = 0; t < tiles; t++) {
            F scale = sumlx[t] / suml2[t];
            if (is == -10) {
                found[t].scale = choose(suml2[t] != 0, scale, all(0));
                found[t].inverse = inverse[t];
                best[t] = found[t].scale * sumlx[t];
            } else {
                I better = (suml2[t] > 0) & (sumlx[t] * sumlx[t] > best[t] * suml2[t]);
                found[t].scale = choose(better, scale, found[t].scale);
                found[t].inverse = choose(better, inverse[t], found[t].inverse);
                best[t] = choose(better, scale * sumlx[t], best[t]);
            }
        }
    }
    for (int t = 0; t < tiles; t++) found[t].scale = choose(found[t].empty, all(0), found[t].scale);
}

/* ggml's make_qp_quants: x ~ scale * l, 0 <= l <= top, for the scales of a super-block, a super-block a lane. Quants
 * are kept as bytes: a negative one wraps, and is used so. Returns the scale. */
static inline F search_positive(I *l, const F *x, const F *w, int n, int top) {
    F max = all(0), best = all(0), sumlx = all(0), suml2 = all(0);
    for (int i = 0; i < n; i++) max = greater(max, x[i]);
    I empty = max < 1e-15f;
    F inverse = (float)top / max, scale = 1.0f / inverse;
    for (int i = 0; i < n; i++) {
        F diff = x[i] - scale * to_float(nearest(inverse * x[i]) & 0xff);
        best += w[i] * diff * diff;
    }
    for (int is = -4; is <= 4; is++) {
        if (is == 0) continue;
        F candidate = (0.1f * (float)is + (float)top) / max, error = all(0);
        scale = 1.0f / candidate;
        for (int i = 0; i < n; i++) {
            F diff = x[i] - scale * to_float(lesser_i(all_i(top), nearest(candidate * x[i])));
            error += w[i] * diff * diff;
        }
        I better = error < best;
        best = choose(better, error, best);
        inverse = choose(better, candidate, inverse);
    }
    for (int i = 0; i < n; i++) {
        I q = lesser_i(all_i(top), nearest(inverse * x[i]));
        l[i] = q & 0xff;
        sumlx += w[i] * x[i] * to_float(q);
        suml2 += w[i] * to_float(q) * to_float(q);
    }
    for (int round = 0; round < 5; round++) {
        unsigned changed = 0;
        for (int i = 0; i < n; i++) { /* a lane that has come to rest changes no more */
            F old = to_float(l[i]), wx = w[i] * x[i];
            F slx = sumlx - wx * old, sl2 = suml2 - w[i] * old * old;
            I q = lesser_i(all_i(top), nearest(x[i] * sl2 / slx));
            I moves = (slx > 0) & (sl2 > 0) & (q != l[i]);
            slx += wx * to_float(q);
            sl2 += w[i] * to_float(q) * to_float(q);
            moves &= slx * slx * suml2 > sumlx * sumlx * sl2;
            l[i] = (I)choose(moves, (F)(q & 0xff), (F)l[i]);
            sumlx = choose(moves, slx, sumlx);
            suml2 = choose(moves, sl2, suml2);
            changed |= bits(moves);
        }
        if (!changed) break;
    }
    for (int i = 0; i < n; i++) l[i] = l[i] & ~empty;
    return choose((suml2 > 0) & ~empty, sumlx / suml2, all(0));
}
