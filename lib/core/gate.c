/* gate: what closers of gates and makers of pauses have in common: the barrier on every core, for
   which owners pay nothing, and the opening. The protocol is in call.h, the closing, which knows
   claims, in slot.c. */

#include "core/atomic.h"
#include "core/call.h"
#include "core/futex.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

int wksp__barrier(void) {
#ifdef WKSP_NO_THREADS
  return 1; /* no other core has a thread that could be inside */
#endif
  if (!syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)) return 1;
  return !syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void wksp__gate_open(wksp__call_t *call, uint32_t idx) {
  wksp__slot_t *slot = &wksp__slots(call->wksp)[idx];
  uint64_t mine = WKSP_GATE_CLOSED(call->name);
  if (!wksp__cas(&slot->gate, &mine, WKSP_GATE_NOTICE)) return;
  wksp__fetch_add(&slot->gate_futex, 1U);
  wksp__futex_wake(&slot->gate_futex, 1);
}
