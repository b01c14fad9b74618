/* place_floor: what an attach cannot do without, as somebody else's least; see place_floor.c. */

#ifndef WKSP_BENCH_PLACE_FLOOR_H
#define WKSP_BENCH_PLACE_FLOOR_H

#include <stddef.h>

/* Starts the server, with a memory of size bytes, and the mirror. */
void floor_begin(size_t size);
void floor_end(void);

/* Nanoseconds: connect, one round trip that brings a descriptor, mmap and the write of a word. */
double floor_attach(size_t size);

/* Nanoseconds: one byte to another process and back. */
double floor_switch(void);

#endif
