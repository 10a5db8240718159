/* What a kernel gets and what is known of each type. */

#ifndef NEMOTRON_UNIT_H
#define NEMOTRON_UNIT_H

#include <stdint.h>

enum { MAX_UNIT = 4096 }; /* weights in a unit at most */
enum { MAX_BLOCKS = 64 }; /* blocks in a unit at most */

/* Some blocks, one after another, widened to float. Where a lane is a block `x`, `importance` and `row_square` hold a
 * whole number of lanes, those from `n` on being copies of the first; only `n` blocks are written. */
typedef struct {
    const float *x;
    const float *importance[MAX_BLOCKS]; /* of each block; unset without importance */
    float row_square[MAX_BLOCKS];        /* mean square of the block's row, for the types that want it */
    uint8_t *out;
    int n;
} Unit;

typedef void (*Kernel)(Unit *);

typedef struct {
    int type;             /* ggml's number */
    int block, size;      /* weights and bytes of a block */
    int blocks;           /* blocks in a unit */
    int scale_1, scale_2; /* where the F16 scales stand that must be finite; -1 for none */
    Kernel plain, weighted;
    int row_square; /* whether `weighted` wants it */
} Format;

/* What to encode; the result of nemotron_encode. */
typedef struct {
    const uint8_t *rows;
    int64_t stride; /* bytes from row to row */
    int64_t n_rows, n_per_row;
    const float *importance; /* n_per_row, or NULL */
    uint8_t *out;
    int source, type; /* ggml's numbers; source is F32, F16 or BF16 */
} Job;

enum { DONE = 0, NO_KERNEL = 1, INPUT_NOT_FINITE = 2, SCALE_NOT_FINITE = 3 };

#endif
