/* topology: what the machine has to put memory on, as a plain value.

   The shell reads it (shell/topology.c), tests make it up, placement.c decides by it. It is a
   picture of one moment: pools change under it, so what it promises is checked again by whoever
   takes the pages.

   Nodes keep the kernel's numbers, which may have gaps: an entry that is not online stands for
   nothing. A machine without NUMA is one node, 0. Figures of pages are in pages of that size.

   Invariants (topo_check):
     node_cnt is 1 to TOPO_NODES_MAX, cpu_cnt at most TOPO_CPUS_MAX
     some node is online; what is not online is not allowed, and has no cpus and no pages
     of each pool  free <= total, surplus <= total
     distance is TOPO_DISTANCE_LOCAL from a node to itself, at least that to others; 0 if not known
     a cpu's node is -1 (there is no such cpu, or it is offline) or one that is online */

#ifndef WKSPD_CORE_TOPOLOGY_H
#define WKSPD_CORE_TOPOLOGY_H

#include <stdint.h>

/* The kernel can be built for 1,024 nodes; machines with more than 16 are rare. What lies above is
   counted (unseen_cnt) and not used. */
#define TOPO_NODES_MAX 64U

/* What Debian's kernel is built for. */
#define TOPO_CPUS_MAX 8192U

#define TOPO_DISTANCE_LOCAL 10U

/* Sizes of pages, as indexes. */
enum { TOPO_4K = 0, TOPO_2M, TOPO_1G, TOPO_SIZE_CNT };

/* Pages of one size on one node. Of 4 KiB ones: the node's memory, and what of it is free or can be
   reclaimed without writing. Of huge ones: the pool. */
typedef struct topo_pool {
  uint64_t total;   /* surplus ones included */
  uint64_t free;    /* nobody has taken them; others may have reserved them (topo_size_t) */
  uint64_t surplus; /* taken beyond what is persistent; they go when they are given back */
} topo_pool_t;

typedef struct topo_node {
  int online;
  int allowed; /* this process may take memory there (Mems_allowed) */
  topo_pool_t pool[TOPO_SIZE_CNT];
} topo_node_t;

/* Pages of one size on the whole machine. */
typedef struct topo_size {
  int exists;          /* the kernel has such pages (4 KiB: always) */
  uint64_t reserved;   /* of all nodes' free ones: promised to mappings that have not taken them;
                          the kernel does not say on which node */
  uint64_t overcommit; /* surplus pages that there may be in all */
  uint64_t limit;      /* that the cgroups of this process still let it take; UINT64_MAX: all */
} topo_size_t;

typedef struct topo {
  int numa;          /* 0: the kernel knows of no nodes, node 0 is the machine */
  uint32_t node_cnt; /* nodes have the numbers 0 to node_cnt - 1 */
  uint32_t cpu_cnt;
  uint32_t unseen_cnt; /* nodes with numbers from TOPO_NODES_MAX on */
  topo_node_t node[TOPO_NODES_MAX];
  topo_size_t size[TOPO_SIZE_CNT];
  uint16_t distance[TOPO_NODES_MAX][TOPO_NODES_MAX]; /* from, to */
  int16_t cpu_node[TOPO_CPUS_MAX];
} topo_t;

/* Bytes of a page. */
uint64_t topo_page_size(int size);

/* The index of a page size, -1: there is none. */
int topo_size_of(uint64_t page_size);

/* "4k", "2M" or "1G". */
char const *topo_size_name(int size);

/* Pages of this size that can be taken on this node now by who may take them there; what others
   have reserved is not taken off, for it may be anywhere. 0: none, or no such node. */
uint64_t topo_free(topo_t const *topo, uint32_t node, int size);

/* The same on all nodes together: reserved ones taken off, what may be had as surplus added, within
   the limit of the cgroups. */
uint64_t topo_free_all(topo_t const *topo, int size);

/* The first cpu of a node, -1: it has none. */
int topo_first_cpu(topo_t const *topo, uint32_t node);

/* NULL, or a constant sentence that names the first invariant broken. */
char const *topo_check(topo_t const *topo);

#endif
