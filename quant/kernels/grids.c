/* Makes the neighbour lists of a grid, as ggml does: all points at the `n_distances` smallest distances from a code, by
 * distance, then by index. */

#include "grid.h"

#include <stdlib.h>

#if defined(_WIN32)
#define OFFERED __declspec(dllexport)
#else
#define OFFERED __attribute__((visibility("default")))
#endif

Grid nemotron_grids[GRID_TYPES];

enum { MAX_POINTS = 1024, MAX_DISTANCE = 4 * 7 * 7 + 1 }; /* squared, in steps between levels; IQ2 stays below */

OFFERED int nemotron_set_grid(int type, const uint16_t *codes, int n, int n_distances);

/* Squared distance in steps between levels. */
static int distance(unsigned a, unsigned b, int bits) {
    int sum = 0, mask = (1 << bits) - 1;
    for (; a | b; a >>= bits, b >>= bits) {
        int step = (int)(a & (unsigned)mask) - (int)(b & (unsigned)mask);
        sum += step * step;
    }
    return sum;
}

/* The list of one code, without its length; returns how many. */
static int neighbours(uint16_t *list, unsigned code, const uint16_t *codes, int n, int bits, int n_distances) {
    short at[MAX_POINTS];
    int count[MAX_DISTANCE] = {0}, found = 0;
    for (int i = 0; i < n; i++) count[at[i] = (short)distance(code, codes[i], bits)]++;
    for (int d = 0; d < MAX_DISTANCE && n_distances; d++) {
        if (!count[d]) continue;
        n_distances--;
        for (int i = 0; i < n; i++)
            if (at[i] == d) list[found++] = codes[i];
    }
    return found;
}

/* Hands a grid over, once for each type and by one thread; returns 0 where there is no memory. */
int nemotron_set_grid(int type, const uint16_t *codes, int n, int n_distances) {
    int bits = type == IQ3_XXS || type == IQ3_S ? 3 : 2, fields = bits == 3 ? 4 : 8, size = 0, room = 1 << 16;
    int n_codes = bits == 3 ? 1 << 12 : 1 << 16;
    Grid grid = {malloc(sizeof(int16_t) * (size_t)n_codes), malloc(sizeof(int32_t) * (size_t)n_codes),
                 malloc(sizeof(uint16_t) * (size_t)room)};
    if (!grid.index || !grid.place || !grid.lists || n > MAX_POINTS) return 0;
    for (int code = 0; code < n_codes; code++) grid.index[code] = -1;
    for (int i = 0; i < n; i++) grid.index[codes[i]] = (int16_t)i;
    for (int code = 0; code < n_codes; code++) {
        int possible = 1;
        for (int i = 0; i < fields && bits == 2; i++) possible &= (code >> 2 * i & 3) != 3; /* IQ2 has three levels */
        if (!possible) continue;
        if (room - size < MAX_POINTS + 8) {
            uint16_t *more = realloc(grid.lists, sizeof(uint16_t) * (size_t)(room *= 2));
            if (!more) return 0;
            grid.lists = more;
        }
        uint16_t *list = grid.lists + size;
        int found = 1;
        if (grid.index[code] >= 0) list[1] = (uint16_t)code;
        else found = neighbours(list + 1, (unsigned)code, codes, n, bits, n_distances);
        for (; found % 8; found++) list[1 + found] = list[1];
        list[0] = (uint16_t)found;
        grid.place[code] = size;
        size += 1 + found;
    }
    nemotron_grids[type] = grid;
    return 1;
}
