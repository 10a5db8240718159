/* The encoder for any machine: the compiler makes SSE2 or NEON of the vector types. */

#define NEMOTRON_NAME nemotron_encode_portable
#include "encode.h"
