/* test_tree: made-up machines, as folders that hold what sysfs and procfs would. */

#ifndef WKSPCTL_TEST_TREE_H
#define WKSPCTL_TEST_TREE_H

#include "sys.h"

typedef struct tree {
  char root[64];
  sys_t sys; /* reads below root */
} tree_t;

/* Fails the test if it cannot be made. */
void tree_open(tree_t *tree);
void tree_close(tree_t *tree);

/* A file with that text and a line end, the folders on its way included. */
void tree_put(tree_t *tree, char const *path, char const *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The number in a file. */
ulong tree_number(tree_t const *tree, char const *path);

void tree_remove(tree_t *tree, char const *path);

/* Online and possible nodes and cpus, what this process may use, and pools of 2M and 1G of which
   nothing is taken: all zero. */
void tree_machine(tree_t *tree, char const *online, char const *possible, char const *cpus,
                  char const *mems_ok);

/* A node: its cpus, MiB of memory and of free memory, pages of 2M and 1G, all free, and its
   distances. pages below 0: a node without memory. */
void tree_node(tree_t *tree, uint node, char const *cpus, ulong mib, ulong free_mib, long pages_2m,
               long pages_1g, char const *distances);

#endif
