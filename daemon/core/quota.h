/* quota: how much memory, and how many workspaces, there may be of a user or of a tag, by size of
   pages and node.

   Charged is what a workspace can grow to, not what it has, since its writers can touch that much.
   A rule is about whom, one size of pages or all together, one node or all together, and what it
   counts. A rule for a user wins over the one for all users that is about the same; root has those
   for root alone. A tag is what its maker said that a workspace is for: rules for it count those of
   all users. A workspace counts on a node if any of its pages are wanted there. What is not ruled
   is free.

   Plain computation over values; whose workspaces count is the engine's (charge.c). */

#ifndef WKSPD_CORE_QUOTA_H
#define WKSPD_CORE_QUOTA_H

#include <stdint.h>

#include "daemon/core/spec.h"
#include "daemon/core/topology.h"

#define QUOTA_RULES_MAX 256U

/* Tags that are kept for a group. */
#define QUOTA_TAGS_MAX 64U

#define QUOTA_ALL_NODES (-1)
#define QUOTA_ALL_SIZES (-1)

/* In a rule OF_ALL too: of all users but root that have no rule of their own about the same. */
enum { QUOTA_OF_ALL = 0, QUOTA_OF_UID, QUOTA_OF_TAG };

/* Whose: a user's, or a tag's. What is not of concern is 0. */
typedef struct quota_whom {
  int of;
  uint32_t uid;
  char tag[SPEC_TAG_MAX + 1];
} quota_whom_t;

typedef struct quota_rule {
  quota_whom_t whom;
  int size;       /* TOPO_*, or QUOTA_ALL_SIZES, which takes counts */
  int node;       /* QUOTA_ALL_NODES, or a node, which takes a size */
  int counts;     /* 1: workspaces; 0: bytes */
  uint64_t limit; /* of these */
} quota_rule_t;

typedef struct quota_tag {
  char tag[SPEC_TAG_MAX + 1];
  uint32_t gid; /* whose members alone may use it */
} quota_tag_t;

typedef struct quota {
  uint32_t cnt, tag_cnt;
  quota_rule_t rule[QUOTA_RULES_MAX];
  quota_tag_t tag[QUOTA_TAGS_MAX];
} quota_t;

/* What some workspaces take together. */
typedef struct quota_sum {
  uint64_t all[TOPO_SIZE_CNT];
  uint64_t node[TOPO_SIZE_CNT][TOPO_NODES_MAX];
} quota_sum_t;

typedef struct quota_use {
  quota_sum_t bytes, cnt;
  uint64_t workspace_cnt; /* those whose size of pages is not known yet, too */
} quota_use_t;

/* 1 if the rule counts for them: no other is about the same and wins. */
int quota_counts(quota_t const *quota, quota_rule_t const *rule, quota_whom_t const *whom);

/* The first rule for them that use does not keep; NULL: it keeps all. */
quota_rule_t const *quota_broken(quota_t const *quota, quota_whom_t const *whom,
                                 quota_use_t const *use);

/* What use is of what the rule is about. */
uint64_t quota_used(quota_rule_t const *rule, quota_use_t const *use);

/* 1 if both rules are about the same of the same. */
int quota_same(quota_rule_t const *a, quota_rule_t const *b);

/* NULL: the tag is for everybody. */
quota_tag_t const *quota_tag(quota_t const *quota, char const *tag);

/* Reads a rule: key "default.2M", "uid1000.4k", "uid0.1G.node1", "tag.trading.2M", each of which
   may end with ".workspaces", as may the name alone ("uid1000.workspaces"). 0, or 1: it is none. */
int quota_read(char const *key, uint64_t limit, quota_rule_t *ret_rule);

/* Reads "tag.trading.group". 1 and the tag, or 0: it is not such a key. */
int quota_read_tag(char const *key, char ret_tag[SPEC_TAG_MAX + 1]);

#endif
