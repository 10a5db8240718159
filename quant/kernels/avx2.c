/* The encoder for x86-64 with AVX2 and F16C. Fused multiply-add is left out on purpose: it would change the bits. */

#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,f16c")
#endif

#define NEMOTRON_AVX2
#define NEMOTRON_NAME nemotron_encode_avx2
#include "encode.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int nothing_to_compile_here;
#endif
