/* digest: XXH3, for whatever the processor has.

   The header makes the functions for the vectors that the compiler may use, and that is what every
   processor of the kind has. So they are compiled twice, once for those with AVX2, and chosen when
   they are called: a checkpoint's first cost is to digest what lives. All give the same digests. */

#ifndef WKSP_CKPT_DIGEST_H
#define WKSP_CKPT_DIGEST_H

#include "ckpt/format.h"

#ifdef WKSP_CK_AVX2
/* As wksp__ck_digest and the others; only if the processor has AVX2. */
wksp__ck_digest_t wksp__ck_avx2_digest(void const *bytes, uint64_t len);
void wksp__ck_avx2_digest_add(void *state, void const *bytes, uint64_t len);
wksp__ck_digest_t wksp__ck_avx2_digest_end(void *state);
uint64_t wksp__ck_avx2_sum(void const *bytes, uint64_t len);
#endif

#endif
