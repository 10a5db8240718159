/* ggml's make_q3_quants, the search of Q3_K without importance: x ~ scale * l, -4 <= l < 4, in sub-blocks of 16. Up to
 * five times round it tries one quant after another, and a try needs the sums that the last one left. Few quants ever
 * move, so that what cannot is told first, all its quants at once, and only the rest goes round, packed closely. */

/* Sub-blocks, one a lane, as far as their search has come. */
typedef struct {
    F x[16], l[16], sumlx, suml2;
} Moving;

/* Begins with the plain range. Returns the lanes that can move at all: of a maximum above 0 no sum is positive. */
static inline I begin_moving(Moving *m) {
    F max = all(0), amax = all(0);
    for (int i = 0; i < 16; i++) {
        I more = absolute(m->x[i]) > amax;
        amax = choose(more, absolute(m->x[i]), amax);
        max = choose(more, m->x[i], max);
    }
    I empty = amax < 1e-15f;
    F inverse = choose(empty, all(0), -4.0f / max);
    m->sumlx = m->suml2 = all(0);
    for (int i = 0; i < 16; i++) {
        F w = m->x[i] * m->x[i], l = nearest_within(inverse * m->x[i], -4, 3, 0);
        m->l[i] = l;
        m->sumlx += w * m->x[i] * l;
        m->suml2 += w * l * l;
    }
    return (max < 0) & ~empty;
}

/* Whether a round might move a quant, were it to find the sums as they are: where the quotient, of which all above 3
 * is 3, is not within a half of the quant. Never no where it should be yes. */
static inline I may_move(const Moving *m) {
    I rests = all_i(-1);
    F most = all(0);
    for (int i = 0; i < 16; i++) {
        F w = m->x[i] * m->x[i], l = m->l[i];
        F q = m->x[i] * (m->suml2 - w * l * l) / (m->sumlx - w * m->x[i] * l);
        most = greater(most, q);
        rests &= absolute(lesser(all(3), q) - l) < 0.5f;
    }
    return ~(rests & (most < 4e6f)); /* beyond it, the nearest integer is another */
}

/* One round, of some tiles: while one waits for its sums, the others go on. */
static inline void move_round(Moving *tiles, int n) {
    for (int i = 0; i < 16; i++)
        for (Moving *m = tiles; m < tiles + n; m++) {
            F x = m->x[i], w = x * x, wx = w * x, old = m->l[i];
            F slx = m->sumlx - wx * old, sl2 = m->suml2 - w * old * old;
            F q = nearest_within(x * sl2 / slx, -4, 3, 1);
            I moves = (slx > 0) & (q != old);
            slx += wx * q;
            sl2 += w * q * q;
            moves &= (sl2 > 0) & (slx * slx * m->suml2 > m->sumlx * m->sumlx * sl2);
            m->l[i] = choose(moves, q, old);
            m->sumlx = choose(moves, slx, m->sumlx);
            m->suml2 = choose(moves, sl2, m->suml2);
        }
}

static inline void copy_lane(Moving *to, int lane, const Moving *from, int from_lane) {
    float *a = (float *)to + lane;
    const float *b = (const float *)from + from_lane;
#pragma GCC unroll 34
    for (unsigned i = 0; i < sizeof(Moving) / sizeof(F); i++) a[i * LANES] = b[i * LANES];
}

/* The scales of n sub-blocks, a whole number of lanes, at most those of a unit. */
static inline void search_moving(float *scales, const float *x, int n) {
    Moving pool[MAX_UNIT / 16 / LANES], one;
    int place[MAX_UNIT / 16], left = 0;
    for (int first = 0; first < n; first += LANES) {
        to_lanes(one.x, x + 16 * first, 16);
        I moving = begin_moving(&one);
        store(scales + first, choose(one.suml2 > 0, one.sumlx / one.suml2, all(0)));
        for (unsigned found = bits(moving & may_move(&one)); found; found &= found - 1, left++) {
            if (left % LANES == 0) memset(pool + left / LANES, 0, sizeof *pool);
            copy_lane(pool + left / LANES, left % LANES, &one, __builtin_ctz(found));
            place[left] = first + __builtin_ctz(found);
        }
    }
    for (int round = 0; round < 5 && left; round++) {
        const int went = left, tiles = (went + LANES - 1) / LANES;
        left = 0;
        move_round(pool, tiles);
        for (int t = 0; t < tiles; t++) {
            const Moving *m = pool + t;
            unsigned again = bits(may_move(m));
            float found[LANES];
            store(found, choose(m->suml2 > 0, m->sumlx / m->suml2, all(0)));
            for (int k = 0; k < LANES && t * LANES + k < went; k++) {
                int to = place[t * LANES + k];
                scales[to] = found[k];
                if (again >> k & 1) { /* moves up to the front */
                    copy_lane(pool + left / LANES, left % LANES, m, k);
                    place[left++] = to;
                }
            }
        }
    }
}

/* The quants, 0 to 7, that the search leaves in one sub-block: 0, not 4, where there is nothing. */
static inline void moved_quants(uint8_t *l, const float *x) {
    Moving m;
    for (int i = 0; i < 16; i++) m.x[i] = all(x[i]);
    unsigned found = bits(begin_moving(&m) & may_move(&m));
    for (int round = 0; round < 5 && found; round++, found = bits(may_move(&m))) move_round(&m, 1);
    for (int i = 0; i < 16; i++) l[i] = m.suml2[0] == 0 ? 0 : (uint8_t)(m.l[i][0] + 4);
}
