/* quota: see quota.h. Refuses to guess what a key means. */

#include "daemon/core/quota.h"

#include <stdlib.h>
#include <string.h>

#define COUNTS ".workspaces"
#define GROUP  ".group"

int quota_same(quota_rule_t const *a, quota_rule_t const *b) {
  return a->whom.of == b->whom.of && a->whom.uid == b->whom.uid &&
         !strcmp(a->whom.tag, b->whom.tag) && a->size == b->size && a->node == b->node &&
         a->counts == b->counts;
}

int quota_counts(quota_t const *quota, quota_rule_t const *rule, quota_whom_t const *whom) {
  quota_rule_t own = *rule;

  if (whom->of != QUOTA_OF_UID)
    return rule->whom.of == whom->of && !strcmp(rule->whom.tag, whom->tag);
  if (rule->whom.of == QUOTA_OF_UID) return rule->whom.uid == whom->uid;
  if (rule->whom.of != QUOTA_OF_ALL || !whom->uid) return 0;
  own.whom = *whom;
  for (uint32_t i = 0; i < quota->cnt; i++)
    if (quota_same(&quota->rule[i], &own)) return 0;
  return 1;
}

uint64_t quota_used(quota_rule_t const *rule, quota_use_t const *use) {
  quota_sum_t const *sum = rule->counts ? &use->cnt : &use->bytes;

  if (rule->size == QUOTA_ALL_SIZES) return use->workspace_cnt;
  return rule->node == QUOTA_ALL_NODES ? sum->all[rule->size] : sum->node[rule->size][rule->node];
}

quota_rule_t const *quota_broken(quota_t const *quota, quota_whom_t const *whom,
                                 quota_use_t const *use) {
  for (uint32_t i = 0; i < quota->cnt; i++) {
    quota_rule_t const *rule = &quota->rule[i];
    if (quota_used(rule, use) > rule->limit && quota_counts(quota, rule, whom)) return rule;
  }
  return NULL;
}

quota_tag_t const *quota_tag(quota_t const *quota, char const *tag) {
  for (uint32_t i = 0; i < quota->tag_cnt; i++)
    if (!strcmp(quota->tag[i].tag, tag)) return &quota->tag[i];
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

/* "tag.NAME", and *at goes behind it. 1 or 0. */
static int take_tag(char const **at, char ret_tag[SPEC_TAG_MAX + 1]) {
  if (strncmp(*at, "tag.", 4) != 0) return 0;
  char const *name = *at + 4;
  size_t len = strcspn(name, ".");
  if (!len || len > SPEC_TAG_MAX) return 0;
  memset(ret_tag, 0, SPEC_TAG_MAX + 1);
  memcpy(ret_tag, name, len);
  *at = name + len;
  return spec_tag_ok(ret_tag);
}

static int take_whom(char const **at, quota_whom_t *ret_whom) {
  uint64_t number;

  if (!strncmp(*at, "default.", 8)) {
    *at += 7;
    return 1;
  }
  if (!strncmp(*at, "tag.", 4)) {
    ret_whom->of = QUOTA_OF_TAG;
    return take_tag(at, ret_whom->tag);
  }
  if (strncmp(*at, "uid", 3) != 0) return 0;
  *at += 3;
  if (!take_number(at, UINT32_MAX - 1, &number)) return 0;
  ret_whom->of = QUOTA_OF_UID;
  ret_whom->uid = (uint32_t)number;
  return 1;
}

/* ".2M", ".2M.node1", or nothing before a count. */
static int take_pages(char const **at, quota_rule_t *rule) {
  uint64_t number;

  if (!strcmp(*at, COUNTS)) return 1;
  if (*(*at)++ != '.') return 0;
  for (rule->size = TOPO_4K; rule->size < TOPO_SIZE_CNT; rule->size++)
    if (!strncmp(*at, topo_size_name(rule->size), 2)) break;
  if (rule->size == TOPO_SIZE_CNT) return 0;
  *at += 2;
  if (strncmp(*at, ".node", 5) != 0) return 1;
  *at += 5;
  if (!take_number(at, TOPO_NODES_MAX - 1, &number)) return 0;
  rule->node = (int)number;
  return 1;
}

int quota_read(char const *key, uint64_t limit, quota_rule_t *ret_rule) {
  quota_rule_t rule = {.node = QUOTA_ALL_NODES, .size = QUOTA_ALL_SIZES, .limit = limit};

  if (!take_whom(&key, &rule.whom) || !take_pages(&key, &rule)) return 1;
  rule.counts = !strcmp(key, COUNTS);
  if (*key && !rule.counts) return 1;
  *ret_rule = rule;
  return 0;
}

int quota_read_tag(char const *key, char ret_tag[SPEC_TAG_MAX + 1]) {
  char tag[SPEC_TAG_MAX + 1];

  if (!take_tag(&key, tag) || strcmp(key, GROUP) != 0) return 0;
  memcpy(ret_tag, tag, sizeof(tag));
  return 1;
}
