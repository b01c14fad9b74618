/* quota: see quota.h. Refuses to guess what a key means. */

#include "daemon/core/quota.h"

#include <stdlib.h>
#include <string.h>

quota_rule_t const *quota_find(quota_t const *quota, uint32_t uid, int size, int node) {
  quota_rule_t const *found = NULL;

  for (uint32_t i = 0; i < quota->cnt; i++) {
    quota_rule_t const *rule = &quota->rule[i];
    if (rule->size != size || rule->node != node) continue;
    if (!rule->everybody && rule->uid == uid) return rule;
    if (rule->everybody && uid) found = rule;
  }
  return found;
}

uint64_t quota_used(quota_rule_t const *rule, quota_use_t const *use) {
  return rule->node == QUOTA_ALL_NODES ? use->all[rule->size] : use->node[rule->size][rule->node];
}

quota_rule_t const *quota_broken(quota_t const *quota, uint32_t uid, quota_use_t const *use) {
  for (uint32_t i = 0; i < quota->cnt; i++) {
    quota_rule_t const *rule = &quota->rule[i];
    if (quota_find(quota, uid, rule->size, rule->node) == rule &&
        quota_used(rule, use) > rule->bytes)
      return rule;
  }
  return NULL;
}

/* A number of digits up to max, and *at goes behind it. 1 or 0. */
static int take_number(char const **at, uint64_t max, uint64_t *ret_number) {
  char *end;

  size_t digits = strspn(*at, "0123456789");
  if (!digits || digits > 18) return 0;
  *ret_number = strtoull(*at, &end, 10);
  *at = end;
  return *ret_number <= max;
}

int quota_read(char const *key, uint64_t bytes, quota_rule_t *ret_rule) {
  quota_rule_t rule = {.node = QUOTA_ALL_NODES, .bytes = bytes};
  uint64_t number;

  if (!strncmp(key, "default.", 8)) {
    rule.everybody = 1;
    key += 8;
  } else {
    if (strncmp(key, "uid", 3) != 0) return 1;
    key += 3;
    if (!take_number(&key, UINT32_MAX - 1, &number) || *key++ != '.') return 1;
    rule.uid = (uint32_t)number;
  }
  for (rule.size = TOPO_4K; rule.size < TOPO_SIZE_CNT; rule.size++)
    if (!strncmp(key, topo_size_name(rule.size), 2)) break;
  if (rule.size == TOPO_SIZE_CNT) return 1;
  key += 2;
  if (!strncmp(key, ".node", 5)) {
    key += 5;
    if (!take_number(&key, TOPO_NODES_MAX - 1, &number)) return 1;
    rule.node = (int)number;
  }
  if (*key) return 1;
  *ret_rule = rule;
  return 0;
}
