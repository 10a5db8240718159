/* The grids of the IQ2 and IQ3 types, and for each point off a grid its nearest points on it. */

#ifndef NEMOTRON_GRID_H
#define NEMOTRON_GRID_H

#include <stdint.h>

/* A point is a code: its levels, 2 bits (IQ2) or 3 bits (IQ3) each, the first one lowest. */
typedef struct {
    int16_t *index;  /* of a code: its number on the grid, or -1 */
    int32_t *place;  /* of a code: where its list begins */
    uint16_t *lists; /* a multiple of 8, then as many codes, nearest first, filled up with the first one; the list of a
                        point on the grid is itself */
} Grid;

enum { IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ3_S = 21, IQ2_S = 22, GRID_TYPES = 32 };

extern Grid nemotron_grids[GRID_TYPES]; /* by ggml's number of the type; all zero until it is set */

#endif
