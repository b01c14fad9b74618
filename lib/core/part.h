/* part: the partition table and its indexes. See part.c for the model; all internal users of
 * partitions come through here. */

#ifndef WKSP_CORE_PART_H
#define WKSP_CORE_PART_H

#include "core/call.h"
#include "core/tx.h"

/* Where the parts of the partition region lie, and its size: a multiple of 4096. */
void wksp__part_dims(uint64_t part_max, uint64_t data_max, wksp__part_dims_t *ret_dims);

/* Formats the region: one free partition over the first data_sz bytes of data, a multiple of spans.
 * Part of fd_wksp_new. */
void wksp__part_new(fd_wksp_t *wksp, uint64_t data_sz);

/* What else has to happen together with an alloc or free: adds its own words (at most
   WKSP_PART_ALSO_MAX, each once, by wksp__tx_put64) to the change. They are stored once it is
   decided, so others never see one that is taken back. 0, or 1: size cannot be that of such a
   partition (the table is damaged), then nothing is changed. */
typedef int (*wksp__part_also_t)(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size);
#define WKSP_PART_ALSO_MAX 72

/* A partition's kind, here and in what is found: FD_WKSP_KIND_* in the low 8 bits, above them an
 * owner id (24 bits) of the caller's choice. It is compared whole. */

/* Takes a partition. align a power of two >= FD_WKSP_PART_GRAIN, sz > 0. 0 and *ret_gaddr,
 * *ret_size, or E_NOMEM, E_TIMEDOUT, E_CORRUPT (reported). also may be NULL. */
int wksp__part_alloc(wksp__call_t *call, uint64_t timeout_ns, uint64_t align, uint64_t sz,
                     uint64_t tag, uint32_t kind, wksp__part_also_t also, void *arg,
                     uint64_t *ret_gaddr, uint64_t *ret_size);

/* Frees the partition that contains gaddr if it is of that kind and (tag != 0) that tag; E_NOTFOUND
 * otherwise. */
int wksp__part_free(wksp__call_t *call, uint64_t timeout_ns, uint64_t gaddr, uint32_t kind,
                    uint64_t tag, wksp__part_also_t also, void *arg);

/* The same with the lock held, for who frees several in one hold, each in a change of its own: 1
 * freed, 0 not there or of another kind or tag (nothing reported), E_CORRUPT (reported). */
int wksp__part_free_locked(wksp__call_t *call, uint64_t gaddr, uint32_t kind, uint64_t tag,
                           wksp__part_also_t also, void *arg);

/* The used partition that contains gaddr, without the lock: 1 and *ret_part, 0 none, E_AGAIN,
 * E_CORRUPT. */
int wksp__part_find(fd_wksp_t const *wksp, uint64_t gaddr, fd_wksp_part_t *ret_part);

/* The first used partition at or after gaddr_from, as fd_wksp_part_next. */
int wksp__part_next(fd_wksp_t const *wksp, uint64_t gaddr_from, fd_wksp_part_t *ret_part);

/* As part_find and part_next, but just one look at the words as they are, without version or lock:
   for who holds the lock, or tells a torn look by other means. Nothing is reported. */
int wksp__part_look(fd_wksp_t const *wksp, uint64_t gaddr, fd_wksp_part_t *ret_part);
int wksp__part_look_next(fd_wksp_t const *wksp, uint64_t gaddr_from, fd_wksp_part_t *ret_part);

/* As fd_wksp_usage; the tags are not 0. */
int wksp__part_usage(fd_wksp_t const *wksp, ulong const *tags, uint64_t tag_cnt,
                     fd_wksp_usage_t *ret_usage);

/* What became of a resize. why 0: it is as wanted. USED: block, which is in use, is in the way of
 * more. TABLE: every entry of the table is in use, nothing was changed. */
enum { WKSP_RESIZED_USED = 1, WKSP_RESIZED_TABLE = 2 };
typedef struct wksp__resized {
  uint64_t data_sz; /* bytes of data at present, after it */
  int why;
  fd_wksp_part_t block;
} wksp__resized_t;

/* Moves the present end of the data to data_sz bytes from their start, or, downwards, as far as
   what is at the end is free. The end is at a multiple of unit (a power of two from
   FD_WKSP_PART_GRAIN on), or at the end of all addresses. Upwards the pages must be there already;
   downwards they may go after it. data_sz 0: only tells where the end is, once what a dead thread
   has decided about it is done. 0 and *ret_resized, E_INVAL (data_sz is not in [WKSP_SPAN_SZ,
   data_max], or not of units), E_TIMEDOUT, E_CORRUPT; then nothing was changed (reported). */
int wksp__part_resize(wksp__call_t *call, uint64_t timeout_ns, uint64_t data_sz, uint64_t unit,
                      wksp__resized_t *ret_resized);

/* As fd_wksp_data_sz. 0, E_AGAIN, E_CORRUPT (reported). */
int wksp__part_data_sz(fd_wksp_t const *wksp, uint64_t *ret_data_sz);

/* Invariants of the region, see part.c. Tells each violation; 0 or their number. The lock is held,
 * or the memory is still. */
typedef void (*wksp__finding_t)(void *arg, char const *fmt, ...)
    __attribute__((format(printf, 2, 3)));
uint32_t wksp__part_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg);

/* After a change that was not ended: if the word at that offset holds pages' firsts, clears the
 * bits of those that are empty. Any offset may be given. The lock is held. */
void wksp__part_bits_clear(fd_wksp_t *wksp, uint64_t where);

/* Makes the region anew from the entries in use, see part_rebuild.c. Tells what it drops or
 * changes; how many, or E_NOMEM. The lock is held, whatever the record said (wksp__lock_mend). From
 * then on, also after a kill, nobody else gets the lock until wksp__part_rebuilt, and partitions
 * are freed by wksp__part_drop only. */
int wksp__part_rebuild(fd_wksp_t *wksp, wksp__finding_t finding, void *arg);
void wksp__part_rebuilt(fd_wksp_t *wksp);

/* Frees the used partition at gaddr as a part of a rebuild, which is begun anew after a kill: what
 * says that others are in use is not changed meanwhile. 1, 0 there is none, E_CORRUPT (reported).
 */
int wksp__part_drop(fd_wksp_t *wksp, uint64_t gaddr);

#endif
