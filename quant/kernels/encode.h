/* The whole encoder, compiled once for each instruction set: NEMOTRON_NAME gives the function its name. */

#include "lanes.h"
#include "unit.h"

#include "search.h"

#include "group.h"

#include "iq4.h"
#include "iq_grids.h"
#include "k_quants.h"
#include "legacy.h"

#include "fp4.h"

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_BF16 = 30, GGML_MXFP4 = 39 };

static const Format FORMATS[] = {
    {2, 32, 18, 32, 0, -1, encode_q4_0, encode_q4_0_weighted, 1},
    {3, 32, 20, 32, 0, 2, encode_q4_1, encode_q4_1_weighted, 1},
    {6, 32, 22, 32, 0, -1, encode_q5_0, encode_q5_0_weighted, 1},
    {7, 32, 24, 32, 0, 2, encode_q5_1, encode_q5_1_weighted, 1},
    {8, 32, 34, 32, 0, -1, encode_q8_0, encode_q8_0, 0},
    {10, 256, 84, 8, 80, 82, encode_q2_k, encode_q2_k_weighted, 0},
    {11, 256, 110, 8, 108, -1, encode_q3_k, encode_q3_k_weighted, 0},
    {12, 256, 144, 8, 0, 2, encode_q4_k, encode_q4_k_weighted, 0},
    {13, 256, 176, 8, 0, 2, encode_q5_k, encode_q5_k_weighted, 0},
    {14, 256, 210, 8, 208, -1, encode_q6_k, encode_q6_k_weighted, 0},
    {IQ2_XXS, 256, 66, 8, 0, -1, 0, encode_iq2_xxs, 0},
    {IQ2_XS, 256, 74, 8, 0, -1, 0, encode_iq2_xs, 0},
    {IQ3_XXS, 256, 98, 8, 0, -1, encode_iq3_xxs, encode_iq3_xxs, 0},
    {IQ3_S, 256, 110, 8, 0, -1, encode_iq3_s, encode_iq3_s, 0},
    {IQ2_S, 256, 82, 8, 0, -1, encode_iq2_s, encode_iq2_s, 0},
    {20, 32, 18, 32, 0, -1, encode_iq4_nl, encode_iq4_nl_weighted, 0},
    {39, 32, 17, 32, -1, -1, encode_mxfp4, encode_mxfp4, 0},
    {40, 64, 36, 16, -1, -1, encode_nvfp4, encode_nvfp4, 0},
    {23, 256, 136, 8, 0, -1, encode_iq4_xs, encode_iq4_xs_weighted, 0},
};

/* Widens n (a multiple of 8) numbers; says whether all are finite. */
static int widen(float *out, const uint8_t *from, int64_t n, int source) {
    I most = all_i(0);
    for (int64_t i = 0; i < n; i += LANES) {
        F v = source == GGML_F32    ? load((const float *)(const void *)(from + 4 * i))
              : source == GGML_BF16 ? load_bf16(from + 2 * i)
                                    : load_f16(from + 2 * i);
        most = greater_i(most, (I)absolute(v));
        store(out + i, v);
    }
    return bits(most >= 0x7f800000) == 0;
}

/* Mean squares of up to 4 rows, summed as ggml does, one weight after another; the rows side by side hide the wait.
 * Returns how many of the rows, from the first on, are finite. */
static int mean_squares(const Job *job, int64_t row, float *mean) {
    int bytes = job->source == GGML_F32 ? 4 : 2, n = job->n_rows - row < 4 ? (int)(job->n_rows - row) : 4;
    float sum[4] = {0, 0, 0, 0}, x[4][32];
    memset(x, 0, sizeof x);
    for (int64_t j = 0; j < job->n_per_row; j += 32) {
        for (int r = 0; r < n; r++)
            if (!widen(x[r], job->rows + (row + r) * job->stride + j * bytes, 32, job->source)) n = r;
        for (int k = 0; k < 32; k++)
            for (int r = 0; r < 4; r++) sum[r] += x[r][k] * x[r][k];
    }
    for (int r = 0; r < 4; r++) mean[r] = sum[r] / (float)job->n_per_row;
    return n;
}

/* Copies the first block to the unused lanes at the end; small blocks are searched two tiles at a time. */
static void pad(const Format *format, Unit *u, float *x) {
    for (int i = u->n; i % (format->block == 32 ? LANES * TILES : LANES); i++) {
        memcpy(x + i * format->block, x, sizeof(float) * (size_t)format->block);
        u->importance[i] = u->importance[0];
        u->row_square[i] = u->row_square[0];
    }
}

static int scales_finite(const Format *format, const Unit *u) {
    unsigned found = 0;
    for (int i = 0; i < u->n && format->scale_1 >= 0; i++) {
        uint16_t a, b;
        memcpy(&a, u->out + i * format->size + format->scale_1, 2);
        memcpy(&b, u->out + i * format->size + (format->scale_2 < 0 ? format->scale_1 : format->scale_2), 2);
        found |= (a & 0x7c00) == 0x7c00 || (b & 0x7c00) == 0x7c00;
    }
    if (format->type == GGML_MXFP4) /* a scale of its own kind, whose largest code is NaN */
        for (int i = 0; i < u->n; i++) found |= u->out[i * format->size] == 0xff;
    return !found;
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
    float squares[4] = {0, 0, 0, 0};
    int64_t good = 0; /* rows that are known to be finite from their sums of squares */
    const int bytes = job->source == GGML_F32 ? 4 : 2;
    const int64_t per_row = job->n_per_row / format->block, total = per_row * job->n_rows;
    int64_t row = 0, column = 0; /* of the next block */
    for (int64_t done = 0; done < total; done += unit.n) {
        unit.n = total - done < format->blocks ? (int)(total - done) : format->blocks;
        int64_t first = row;
        for (int i = 0; i < unit.n;) { /* as much of a row at a time as there is */
            int some = per_row - column < unit.n - i ? (int)(per_row - column) : unit.n - i;
            const uint8_t *from = job->rows + row * job->stride + column * format->block * bytes;
            int sums = format->row_square && job->importance;
            if (sums && column == 0 && row % 4 == 0) good = row + mean_squares(job, row, squares);
            if (!widen(x + i * format->block, from, some * format->block, job->source) || (sums && row >= good)) {
                *row_of_trouble = row;
                return INPUT_NOT_FINITE;
            }
            for (int end = i + some; i < end; i++, column++) {
                unit.importance[i] = job->importance ? job->importance + column * format->block : 0;
                unit.row_square[i] = squares[row % 4];
            }
            if (column == per_row) row++, column = 0;
        }
        pad(format, &unit, x);
        kernel(&unit);
        if (!scales_finite(format, &unit)) {
            *row_of_trouble = first;
            return SCALE_NOT_FINITE;
        }
        unit.out += unit.n * format->size;
    }
    return DONE;
}
