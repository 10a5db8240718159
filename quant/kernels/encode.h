/* The whole encoder, compiled once for each instruction set: NEMOTRON_NAME gives the function its name. */

#include "lanes.h"
#include "unit.h"

#include "moving.h"
#include "search.h"

#include "group.h"

#include "legacy.h"

#include "fp4.h"
#include "iq4.h"
#include "iq_grids.h"
#include "k_quants.h"

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_BF16 = 30, GGML_MXFP4 = 39 };

static const Format FORMATS[] = {
    {2, 32, 18, 64, 0, -1, encode_q4_0, encode_q4_0_weighted, 1},
    {3, 32, 20, 64, 0, 2, encode_q4_1, encode_q4_1_weighted, 1},
    {6, 32, 22, 64, 0, -1, encode_q5_0, encode_q5_0_weighted, 1},
    {7, 32, 24, 64, 0, 2, encode_q5_1, encode_q5_1_weighted, 1},
    {8, 32, 34, 64, 0, -1, encode_q8_0, encode_q8_0, 0},
    {10, 256, 84, 8, 80, 82, encode_q2_k, encode_q2_k_weighted, 0},
    {11, 256, 110, 16, 108, -1, encode_q3_k, encode_q3_k_weighted, 0},
    {12, 256, 144, 8, 0, 2, encode_q4_k, encode_q4_k_weighted, 0},
    {13, 256, 176, 8, 0, 2, encode_q5_k, encode_q5_k_weighted, 0},
    {14, 256, 210, 8, 208, -1, encode_q6_k, encode_q6_k_weighted, 0},
    {IQ2_XXS, 256, 66, 8, 0, -1, 0, encode_iq2_xxs, 0},
    {IQ2_XS, 256, 74, 8, 0, -1, 0, encode_iq2_xs, 0},
    {IQ3_XXS, 256, 98, 8, 0, -1, encode_iq3_xxs, encode_iq3_xxs, 0},
    {IQ3_S, 256, 110, 8, 0, -1, encode_iq3_s, encode_iq3_s, 0},
    {IQ2_S, 256, 82, 8, 0, -1, encode_iq2_s, encode_iq2_s, 0},
    {20, 32, 18, 64, 0, -1, encode_iq4_nl, encode_iq4_nl_weighted, 0},
    {39, 32, 17, 64, -1, -1, encode_mxfp4, encode_mxfp4, 0},
    {40, 64, 36, 16, -1, -1, encode_nvfp4, encode_nvfp4, 0},
    {23, 256, 136, 8, 0, -1, encode_iq4_xs, encode_iq4_xs_weighted, 0},
};

/* Widens n (a multiple of 32) numbers; says whether all are finite. */
INLINED int widen_from(float *out, const uint8_t *from, int64_t n, int source) {
    I most = all_i(0);
    for (int64_t i = 0; i < n; i += 32)
        for (int k = 0; k < 32; k += LANES) {
            F v = source == GGML_F32    ? load((const float *)(const void *)from + i + k)
                  : source == GGML_BF16 ? load_bf16(from + 2 * (i + k))
                                        : load_f16(from + 2 * (i + k));
            most = greater_i(most, (I)absolute(v));
            store(out + i + k, v);
        }
    return bits(most >= 0x7f800000) == 0;
}

static int widen(float *out, const uint8_t *from, int64_t n, int source) {
    if (source == GGML_F32) return widen_from(out, from, n, GGML_F32);
    return source == GGML_BF16 ? widen_from(out, from, n, GGML_BF16) : widen_from(out, from, n, GGML_F16);
}

/* Where the next blocks come from. */
typedef struct {
    const Job *job;
    const Format *format;
    int64_t row, column; /* the next block, columns counted in blocks */
    int64_t good;        /* rows whose squares were summed, and that are finite */
    float squares[4];    /* the mean squares of four rows, the first of them a multiple of 4 */
} Reader;

/* Mean squares of up to 4 rows, summed as ggml does, one weight after another; the rows side by side hide the wait. */
static void mean_squares(Reader *r) {
    const Job *job = r->job;
    int bytes = job->source == GGML_F32 ? 4 : 2, n = job->n_rows - r->row < 4 ? (int)(job->n_rows - r->row) : 4;
    float sum[4] = {0, 0, 0, 0}, x[4][32];
    memset(x, 0, sizeof x);
    for (int64_t j = 0; j < job->n_per_row; j += 32) {
        for (int i = 0; i < n; i++)
            if (!widen(x[i], job->rows + (r->row + i) * job->stride + j * bytes, 32, job->source)) n = i;
        for (int k = 0; k < 32; k++)
            for (int i = 0; i < 4; i++) sum[i] += x[i][k] * x[i][k];
    }
    for (int i = 0; i < 4; i++) r->squares[i] = sum[i] / (float)job->n_per_row;
    r->good = r->row + n;
}

/* Reads the next blocks, u->n of them; says whether all are finite, and leaves r->row where one is not. */
static int read_blocks(Reader *r, Unit *u, float *x) {
    const Job *job = r->job;
    const int block = r->format->block, bytes = job->source == GGML_F32 ? 4 : 2;
    const int64_t per_row = job->n_per_row / block;
    const int sums = r->format->row_square && job->importance;
    for (int i = 0; i < u->n;) { /* as much of a row at a time as there is */
        int some = per_row - r->column < u->n - i ? (int)(per_row - r->column) : u->n - i;
        const uint8_t *from = job->rows + r->row * job->stride + r->column * block * bytes;
        if (sums && r->column == 0 && r->row % 4 == 0) mean_squares(r);
        if (!widen(x + i * block, from, some * block, job->source) || (sums && r->row >= r->good)) return 0;
        for (int k = 0; k < some && job->importance; k++) {
            u->importance[i + k] = job->importance + (r->column + k) * block;
            u->row_square[i + k] = r->squares[r->row % 4];
        }
        i += some;
        r->column += some;
        if (r->column == per_row) r->row++, r->column = 0;
    }
    return 1;
}

/* Copies the first block to the unused lanes at the end; small blocks are searched some tiles at a time. */
static void pad(const Format *format, Unit *u, float *x) {
    for (int i = u->n; i % (format->block == 32 ? LANES * TILES : LANES); i++) {
        memcpy(x + i * format->block, x, sizeof(float) * (size_t)format->block);
        u->importance[i] = u->importance[0];
        u->row_square[i] = u->row_square[0];
    }
}

/* Whether none of the F16 at `at` of each block is infinite or NaN. */
static int all_finite(const Format *format, const Unit *u, int at) {
    unsigned most = 0;
    for (int i = 0; i < u->n; i++) {
        uint16_t scale;
        memcpy(&scale, u->out + i * format->size + at, 2);
        most = (scale & 0x7fffu) > most ? scale & 0x7fffu : most;
    }
    return most < 0x7c00;
}

static int scales_finite(const Format *format, const Unit *u) {
    int fine = 1;
    if (format->scale_1 >= 0) fine = all_finite(format, u, format->scale_1);
    if (format->scale_2 >= 0) fine &= all_finite(format, u, format->scale_2);
    if (format->type == GGML_MXFP4) /* a scale of its own kind, whose largest code is NaN */
        for (int i = 0; i < u->n; i++) fine &= u->out[i * format->size] != 0xff;
    return fine;
}

int NEMOTRON_NAME(const Job *job, int64_t *row_of_trouble);
int NEMOTRON_NAME(const Job *job, int64_t *row_of_trouble) {
    const Format *format = 0;
    for (unsigned i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (FORMATS[i].type == job->type) format = FORMATS + i;
    Kernel kernel = !format ? 0 : job->importance ? format->weighted : format->plain;
    if (!kernel || job->n_per_row % format->block) return NO_KERNEL;
    if (!job->rows) return DONE; /* only asked whether there is a kernel */

    _Alignas(32) float x[MAX_UNIT];
    Unit unit = {x, {0}, {0}, job->out, 0};
    Reader reader = {job, format, 0, 0, 0, {0}};
    int64_t left = job->n_per_row / format->block * job->n_rows;
    for (; left > 0; left -= unit.n) {
        unit.n = left < format->blocks ? (int)left : format->blocks;
        *row_of_trouble = reader.row;
        if (!read_blocks(&reader, &unit, x)) {
            *row_of_trouble = reader.row;
            return INPUT_NOT_FINITE;
        }
        pad(format, &unit, x);
        kernel(&unit);
        if (!scales_finite(format, &unit)) return SCALE_NOT_FINITE;
        unit.out += unit.n * format->size;
    }
    return DONE;
}
