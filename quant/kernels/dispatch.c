/* The functions that Python calls. No Python header is needed: the library is loaded with ctypes, which also lets go of
 * the interpreter's lock during a call. */

#include "unit.h"

#if defined(_WIN32)
#define OFFERED __declspec(dllexport)
#else
#define OFFERED __attribute__((visibility("default")))
#endif

int nemotron_encode_portable(const Job *job, int64_t *row_of_trouble);
#if defined(__x86_64__)
int nemotron_encode_avx2(const Job *job, int64_t *row_of_trouble);
#endif

OFFERED int nemotron_has_avx2(void);
OFFERED int nemotron_encode(const Job *job, int avx2, int64_t *row_of_trouble);
OFFERED void *PyInit__kernels(void);

int nemotron_has_avx2(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
#else
    return 0;
#endif
}

/* One of the results in unit.h. `avx2` may be set only where nemotron_has_avx2 says so. */
int nemotron_encode(const Job *job, int avx2, int64_t *row_of_trouble) {
#if defined(__x86_64__)
    if (avx2) return nemotron_encode_avx2(job, row_of_trouble);
#endif
    (void)avx2;
    return nemotron_encode_portable(job, row_of_trouble);
}

/* Windows linkers want to see it in an extension; this one is not for `import`. */
void *PyInit__kernels(void) { return 0; }
