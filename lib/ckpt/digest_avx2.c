/* digest_avx2: the digests for processors with AVX2 (digest.h). Compiled with -mavx2, so nothing in
   here may run on others.

   The upper halves of the registers are cleared at each end: the compiler leaves that out, and code
   without AVX, codecs for one, then takes three times as long. */

#include "ckpt/digest.h"

#include "ckpt/digest_pages.h"

#include <immintrin.h>

wksp__ck_digest_t wksp__ck_avx2_digest(void const *bytes, uint64_t len) {
  XXH128_hash_t hash = XXH3_128bits(bytes, len);
  _mm256_zeroupper();
  return (wksp__ck_digest_t){hash.low64, hash.high64};
}

void wksp__ck_avx2_digest_add(void *state, void const *bytes, uint64_t len) {
  digest_pages(state, bytes, len);
  _mm256_zeroupper();
}

wksp__ck_digest_t wksp__ck_avx2_digest_end(void *state) {
  XXH128_hash_t hash = XXH3_128bits_digest(state);
  _mm256_zeroupper();
  return (wksp__ck_digest_t){hash.low64, hash.high64};
}

uint64_t wksp__ck_avx2_sum(void const *bytes, uint64_t len) {
  uint64_t sum = XXH3_64bits(bytes, len);
  _mm256_zeroupper();
  return sum;
}
