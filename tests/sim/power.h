/* power: a disk that loses what was not made durable.

   The state folder's own code (daemon/shell/store.c, file.c) works on a real folder, and each call
   that changes something there is written down on the way (the linker puts these functions before
   the C library's). From that record the folder can be made again as a power failure after any of
   the calls may leave it:

     a name      is as it was when its folder was last synced, and each later change of it has
                 happened or not, by itself
     a file      holds what was written before it was last synced, and any part of the rest, or
                 zeros in its place

   Refuses to know what the files mean. */

#ifndef TESTS_SIM_POWER_H
#define TESTS_SIM_POWER_H

#include <stddef.h>
#include <stdint.h>

/* What has become of that which was not durable. */
enum power_how { POWER_GONE = 0, POWER_KEPT, POWER_MIXED };

typedef struct power power_t;

/* Records what is done to folder from now on, which must exist and be empty. One at a time. */
power_t *power_new(char const *folder);

/* No further call is recorded. */
void power_stop(power_t *power);

/* Calls recorded so far. */
size_t power_cnt(power_t const *power);

/* Makes the folder to, emptied first, as it may be found after a failure behind the first cnt
   calls. *random is the state of a generator, used by POWER_MIXED. */
void power_fail(power_t const *power, size_t cnt, int how, uint64_t *random, char const *to);

/* A sentence about the last call before cnt, for who looks for a mistake. */
char const *power_call(power_t const *power, size_t cnt);

void power_free(power_t *power);

#endif
