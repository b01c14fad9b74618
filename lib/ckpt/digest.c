/* digest: XXH3 of 128 bits for chunks, of 64 bits for all else (format.h).

   See digest.h for why there are two of each. Refuses: to be good against malice; they find damage,
   and what is the same. */

#include "ckpt/digest.h"

#include "ckpt/digest_pages.h"

#ifdef WKSP_CK_AVX2
#define OR_AVX2(call) \
  if (__builtin_cpu_supports("avx2")) return wksp__ck_avx2_##call
#else
#define OR_AVX2(call) (void)0
#endif

/* Below that vectors do not matter, and the choice costs as much. */
#define SHORT 512UL

wksp__ck_digest_t wksp__ck_digest(void const *bytes, uint64_t len) {
  if (len >= SHORT) OR_AVX2(digest(bytes, len));
  XXH128_hash_t hash = XXH3_128bits(bytes, len);
  return (wksp__ck_digest_t){hash.low64, hash.high64};
}

uint64_t const wksp__ck_digest_state_sz = sizeof(XXH3_state_t);

void wksp__ck_digest_begin(void *state) {
  XXH3_128bits_reset(state);
}

void wksp__ck_digest_add(void *state, void const *bytes, uint64_t len) {
  OR_AVX2(digest_add(state, bytes, len));
  digest_pages(state, bytes, len);
}

wksp__ck_digest_t wksp__ck_digest_end(void *state) {
  OR_AVX2(digest_end(state));
  XXH128_hash_t hash = XXH3_128bits_digest(state);
  return (wksp__ck_digest_t){hash.low64, hash.high64};
}

uint64_t wksp__ck_sum(void const *bytes, uint64_t len) {
  if (len >= SHORT) OR_AVX2(sum(bytes, len));
  return XXH3_64bits(bytes, len);
}

int wksp__ck_sum_ok(void const *bytes, uint64_t len, uint64_t sum) {
#ifdef WKSP_CK_FUZZ
  return 1;
#else
  return wksp__ck_sum(bytes, len) == sum;
#endif
}
