/* host: what this machine has to put memory on - nodes, cpus, distances and pools of huge pages.

   A picture of one moment, read from sysfs below a root that tests can make up. Nodes keep the
   kernel's numbers. A kernel without NUMA is one node, 0. */

#ifndef WKSPCTL_HOST_H
#define WKSPCTL_HOST_H

#include "sys.h"

#define HOST_ERROR_MAX 512

/* Sizes of huge pages that a kernel has at most (arm64: four). */
#define HOST_SIZES_MAX 8

/* Kernels are built for up to 1,024 nodes. */
#define HOST_NODES_MAX 1024U

/* Pages of one size on one node. */
typedef struct host_pool {
  ulong total;   /* surplus ones included */
  ulong free;    /* nobody has taken them */
  ulong surplus; /* taken beyond what is persistent; they go when they are given back */
} host_pool_t;

typedef struct host_node {
  uint id;
  int allowed; /* this process may take memory there */
  int pooled;  /* it can have huge pages: it has memory */
  sys_set_t cpus;
  ulong mem, mem_free; /* bytes; 0: a node without memory */
  host_pool_t pool[HOST_SIZES_MAX];
} host_node_t;

/* Pages of one size on all nodes. */
typedef struct host_size {
  ulong size; /* bytes of a page */
  host_pool_t all;
  ulong reserved;   /* of the free ones: promised to mappings that have not taken them yet; the
                       kernel does not say on which node */
  ulong overcommit; /* surplus pages that there may be */
} host_size_t;

typedef struct host {
  int numa;           /* 0: the kernel knows of no nodes */
  sys_set_t possible; /* nodes */
  sys_set_t online;   /* nodes */
  sys_set_t cpus;     /* online ones */
  sys_set_t mems_ok;  /* nodes on which this process may take memory */
  sys_set_t cpus_ok;  /* cpus on which it may run */
  uint node_cnt;      /* online ones */
  host_node_t *node;  /* in the order of their numbers */
  uint *distance;     /* of node[i] to node[j]: distance[i * node_cnt + j]; 0: not known */
  uint size_cnt;
  host_size_t size[HOST_SIZES_MAX]; /* the smallest first */
} host_t;

/* Reads it. 0 and *ret_host, to be freed by host_free; or -1 and a sentence that names the file. */
int host_read(sys_t const *sys, host_t *ret_host, char ret_error[HOST_ERROR_MAX]);
void host_free(host_t *host);

/* The node of that number, NULL: it is not online. */
host_node_t const *host_node(host_t const *host, ulong id);

/* The node of a cpu, NULL: it is offline, or there is none. */
host_node_t const *host_node_of_cpu(host_t const *host, uint cpu);

/* The index of a page size, -1: this machine has no such huge pages. */
int host_size_of(host_t const *host, ulong page_size);

/* The folder of a node's pool: of the machine's, if the kernel knows of no nodes. */
typedef struct host_dir {
  char s[128];
} host_dir_t;
host_dir_t host_pool_dir(int numa, uint node, ulong page_size);

#endif
