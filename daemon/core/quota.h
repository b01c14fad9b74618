/* quota: how much memory a user's workspaces may take together, by size of pages and node.

   Charged is what a workspace can grow to, not what it has, since its writers can touch that much.
   A rule is about one size of pages, and one node or all together. A rule for a user wins over the
   one for all users that is about the same; root has those for root alone. What is not ruled is
   free.

   Plain computation over values; whose workspaces count is the engine's (plan.c). */

#ifndef WKSPD_CORE_QUOTA_H
#define WKSPD_CORE_QUOTA_H

#include <stdint.h>

#include "daemon/core/topology.h"

#define QUOTA_RULES_MAX 256U

#define QUOTA_ALL_NODES (-1)

typedef struct quota_rule {
  int everybody; /* of all users but root that have no rule of their own about the same */
  uint32_t uid;  /* else whose */
  int size;      /* TOPO_* */
  int node;      /* QUOTA_ALL_NODES, or a node */
  uint64_t bytes;
} quota_rule_t;

typedef struct quota {
  uint32_t cnt;
  quota_rule_t rule[QUOTA_RULES_MAX];
} quota_t;

/* What one user's workspaces take, bytes. */
typedef struct quota_use {
  uint64_t all[TOPO_SIZE_CNT];
  uint64_t node[TOPO_SIZE_CNT][TOPO_NODES_MAX];
} quota_use_t;

/* The rule for that user about pages of that size on that node; NULL: none. */
quota_rule_t const *quota_find(quota_t const *quota, uint32_t uid, int size, int node);

/* The first rule for that user that use does not keep; NULL: it keeps all. */
quota_rule_t const *quota_broken(quota_t const *quota, uint32_t uid, quota_use_t const *use);

/* What use is of what the rule is about. */
uint64_t quota_used(quota_rule_t const *rule, quota_use_t const *use);

/* Reads a rule: key "default.2M", "uid1000.4k", "uid0.1G.node1"; value bytes. 0, or 1: it is none.
 */
int quota_read(char const *key, uint64_t bytes, quota_rule_t *ret_rule);

#endif
