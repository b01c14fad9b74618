/* digest_pages: XXH3 of memory that is not in the caches, for either compilation (digest.h).

   The processor fetches ahead by itself within a page. Where the next page is it asks when it gets
   there, and waits, which with pages of 4 KiB is a fifth of the time. So one line of the next page
   is asked for before the present one is digested. To ask for more of its lines costs more than it
   brings. */

#ifndef WKSP_CKPT_DIGEST_PAGES_H
#define WKSP_CKPT_DIGEST_PAGES_H

#include "ckpt/ranges.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline void digest_pages(XXH3_state_t *state, char const *at, uint64_t len) {
  for (; len > WKSP_CK_PAGE; at += WKSP_CK_PAGE, len -= WKSP_CK_PAGE) {
    __builtin_prefetch(at + WKSP_CK_PAGE);
    XXH3_128bits_update(state, at, WKSP_CK_PAGE);
  }
  XXH3_128bits_update(state, at, len);
}

#endif
