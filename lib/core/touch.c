/* touch: what accesses to shared memory call in a build with WKSP_CRASH_POINTS (atomic.h), for the
   programs that are not interested. */

#include "core/atomic.h"

__attribute__((weak)) void wksp__touch(void const volatile *place) {
  (void)place;
}

__attribute__((weak)) void wksp__locked(void) {
}
