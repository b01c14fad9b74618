/* mapping: maps a workspace's memory so that alignment in the workspace is alignment in the
 * process. */

#ifndef WKSP_CORE_MAPPING_H
#define WKSP_CORE_MAPPING_H

#include <stddef.h>

/* Largest alignment of a mapping's address. Blocks and partitions asked for with up to this
   alignment have it in every process that maps with wksp__map_fd. */
#define WKSP_MAP_ALIGN_MAX (1UL << 30)

/* And the least: a huge page. Smaller pages are collapsed to huge ones only so. */
#define WKSP_MAP_ALIGN_MIN (2UL << 20)

/* Maps size bytes (a multiple of the memory's page size) of fd, shared, with prot, at a multiple of
   the least power of two that is at least size and 2 MiB, at most WKSP_MAP_ALIGN_MAX. NULL and
   errno. The caller munmaps. */
void *wksp__map_fd(int fd, size_t size, int prot);

/* Addresses only, without access, at a multiple of align (a power of two). NULL and errno. */
void *wksp__map_none(size_t size, size_t align);

#endif
