/* The functions that Python calls. No Python header is needed: the library is loaded with ctypes, which also lets go of
 * the interpreter's lock during a call. */

#include "unit.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

/* AVX2 and F16C, in the processor and let through by the system. Asked here: the compiler's own answer needs a runtime
 * library that not every Clang brings. */
int nemotron_has_avx2(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || !(c & bit_F16C)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 0; /* registers of both halves are saved */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
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
