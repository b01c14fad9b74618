/* alloc_hard: what -Dhardened=true adds to malloc and free. See alloc_hard.c. */

#ifndef WKSP_CORE_ALLOC_HARD_H
#define WKSP_CORE_ALLOC_HARD_H

#include "core/alloc.h"

#ifdef WKSP_HARDENED

/* Bytes for a live bit of each 16 bytes of a span (layout.c). */
#define WKSP_HARD_SPAN_SZ (WKSP_SPAN_SZ / 16 / 8)

/* A span has got blocks of the class, all free. */
void wksp__hard_prepare(fd_wksp_t *wksp, uint32_t span, uint32_t cls);

/* The block at gaddr, taken by the operation's malloc, goes to its user. */
void wksp__hard_take(wksp__op_t *op, uint64_t gaddr, uint32_t cls);

/* The block at gaddr, in a span of the class of an alloc's heap, is to be freed. 0, or E_NOTFOUND:
   no user has it. Whoever calls this twice at once for one block, once it is E_NOTFOUND. */
int wksp__hard_give(wksp__op_t *op, uint64_t gaddr, uint32_t cls);

/* A block that a dead thread had taken out of its word goes back into a magazine. */
void wksp__hard_lay(fd_wksp_t *wksp, uint64_t gaddr, uint32_t cls);

/* A dead thread's block is in nobody's hands, and may be freed whatever he had done to it. */
void wksp__hard_bury(fd_wksp_t *wksp, uint64_t gaddr);

#else

#define WKSP_HARD_SPAN_SZ                   0UL
#define wksp__hard_prepare(wksp, span, cls) ((void)0)
#define wksp__hard_take(op, gaddr, cls)     ((void)0)
#define wksp__hard_give(op, gaddr, cls)     0
#define wksp__hard_lay(wksp, gaddr, cls)    ((void)0)
#define wksp__hard_bury(wksp, gaddr)        ((void)0)

#endif
#endif
