/* The kernels as a program of their own, for a machine that is emulated: reads one order from the standard input and
 * writes the blocks. An order is eight 32-bit integers (type, rows, weights of a row, whether there is importance, bytes
 * of the blocks, points of the grid, how many distances its neighbours may have, whether AVX2 may be used), the weights
 * as F32, the importance, the grid's points as 16-bit codes. */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

int nemotron_has_avx2(void);
int nemotron_encode(const Job *job, int avx2, int64_t *row_of_trouble);
int nemotron_set_grid(int type, const uint16_t *codes, int n, int n_distances);

static void *take(size_t size) {
    void *data = malloc(size + 1);
    if (!data || fread(data, 1, size, stdin) != size) exit(2);
    return data;
}

int main(void) {
    int32_t *order = take(8 * sizeof(int32_t));
    size_t n_per_row = (size_t)order[2], n = (size_t)order[1] * n_per_row, size = (size_t)order[4];
    uint8_t *rows = take(n * sizeof(float)), *out = malloc(size);
    float *importance = order[3] ? take(n_per_row * sizeof(float)) : 0;
    uint16_t *points = take((size_t)order[5] * sizeof(uint16_t));
    int64_t row = 0, stride = (int64_t)(n_per_row * sizeof(float));
    Job job = {rows, stride, order[1], order[2], importance, out, 0, order[0]};
    if (order[5] && !nemotron_set_grid(order[0], points, order[5], order[6])) return 3;
    if (!out || nemotron_encode(&job, order[7] && nemotron_has_avx2(), &row) != DONE) return 4;
    return fwrite(out, 1, size, stdout) == size ? 0 : 5;
}
