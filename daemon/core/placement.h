/* placement: which node each page of a workspace is wanted on, and whether that can be had.

   What a user asks for is a text:

     ""                  as local, but pages may come from elsewhere
     local               the node of the cpu that asks, or the nearest one that has memory
     0  0,1  0-3         these nodes; of several in turn (interleaved)
     split:0,1,1         contiguous parts in this order, as even as possible; 1*2 is 1,1
     cpu:0-4:2,10        as split, each part on the node of one of these cpus (here 0, 2, 4, 10)

   parse makes it a place_ask_t, resolve looks it up in a topology and makes it a place_policy_t,
   which names nodes only. That is what is remembered, as a text of the same language, so that a
   workspace that grows is placed on as it was begun, whoever asks and wherever he runs.

   A layout says where each page is wanted: a policy, a size of pages and how many there are at the
   most. It is a function of the page's number alone, so growth needs no history: interleaving
   counts from the first page, parts divide the max-size. Ordinary pages go in units of 2 MiB, so
   that the kernel can make huge ones of them.

   All of it is plain computation over values. What it refuses, it refuses with figures.

   Invariants of a policy (place_policy_check):
     part_cnt is 1 to PLACE_PARTS_MAX, every node < TOPO_NODES_MAX
     interleaved: every weight is 1, no node comes twice
     split: every weight is >= 1, neighbours differ in node, weight_sum is the sum of weights */

#ifndef WKSPD_CORE_PLACEMENT_H
#define WKSPD_CORE_PLACEMENT_H

#include <stdint.h>

#include "daemon/core/topology.h"

/* Parts of a split after neighbours on one node became one, and nodes of an interleaving. */
#define PLACE_PARTS_MAX 64U

/* Parts, each of the weight 1, that a text may name. */
#define PLACE_WEIGHT_MAX TOPO_CPUS_MAX

/* Bytes of a text, its NUL not included. */
#define PLACE_TEXT_MAX 255U

enum { PLACE_INTERLEAVED = 1, PLACE_SPLIT };

typedef struct place_policy {
  int kind; /* PLACE_INTERLEAVED, PLACE_SPLIT; 0: none */
  uint32_t part_cnt;
  uint32_t weight_sum;
  struct {
    uint16_t node;
    uint16_t weight;
  } part[PLACE_PARTS_MAX];
} place_policy_t;

enum { PLACE_ASK_LOCAL = 1, PLACE_ASK_NODES, PLACE_ASK_SPLIT, PLACE_ASK_CPUS };

/* What a text says, before it is known whether there are such nodes and cpus. */
typedef struct place_ask {
  int kind; /* PLACE_ASK_* */
  int any;  /* the text is "" */
  uint32_t item_cnt;
  uint16_t item[PLACE_WEIGHT_MAX]; /* nodes or cpus, in order */
} place_ask_t;

enum { PLACE_BAD = 1, PLACE_SHORT };

typedef struct place_fail {
  int kind;              /* PLACE_BAD: it cannot be meant; PLACE_SHORT: not enough pages */
  int32_t node;          /* -1: none in particular */
  int size;              /* SHORT: TOPO_* */
  uint64_t wanted, free; /* SHORT: pages of that size */
  char text[256];        /* what, which value */
  char hint[192];        /* what to do */
} place_fail_t;

typedef struct place_layout {
  place_policy_t policy;
  int size;       /* TOPO_* */
  uint64_t total; /* pages at the most; those from total on are placed like total - 1 */
} place_layout_t;

/* Reads a text of at most PLACE_TEXT_MAX bytes. 0 and *ret_ask, or 1 and *ret_fail (BAD). */
int place_parse(char const *text, place_ask_t *ret_ask, place_fail_t *ret_fail);

/* Finds the nodes; cpu: the one that "local" is about, -1: not known (then the first node that has
   memory). 0 and *ret_policy, or 1 and *ret_fail (BAD, node: which). */
int place_resolve(place_ask_t const *ask, topo_t const *topo, int cpu, place_policy_t *ret_policy,
                  place_fail_t *ret_fail);

/* A policy as a text that place_parse and place_resolve make the same of, on any machine that has
   these nodes. Returns its length; 0 if it is longer than PLACE_TEXT_MAX or the policy is none. */
uint32_t place_text(place_policy_t const *policy, char ret_text[PLACE_TEXT_MAX + 1]);

/* Reads a text that place_text wrote, without a topology. 0, or 1 if it is none. */
int place_read(char const *text, place_policy_t *ret_policy);

/* NULL, or the first invariant broken. */
char const *place_policy_check(place_policy_t const *policy);

/* Where pages are wanted
 * ------------------------------------------------------------------------------------------------
 */

uint32_t place_node(place_layout_t const *layout, uint64_t page);

/* Pages from page on, at most to end (> page), that are wanted on the same node as it. > 0. */
uint64_t place_run(place_layout_t const *layout, uint64_t page, uint64_t end);

/* Of the pages in [from, to), those that are wanted on node. */
uint64_t place_cnt(place_layout_t const *layout, uint32_t node, uint64_t from, uint64_t to);

/* The pages of [from, to) that are wanted on node in pieces of neighbours, of at most piece_max
   pages (> 0), so that several threads can share them: piece number 0, 1, ... 1 and the piece,
   which may be empty, or 0: there are no more. */
int place_piece(place_layout_t const *layout, uint32_t node, uint64_t from, uint64_t to,
                uint64_t piece_max, uint64_t number, uint64_t *ret_first, uint64_t *ret_cnt);

/* Whether it can be had
 * ------------------------------------------------------------------------------------------------
 */

/* Whether the pages [from, to) are to be had by this topology: strict: each on its node; else on
   all nodes together. 0, or 1 and *ret_fail (SHORT). */
int place_afford(place_layout_t const *layout, topo_t const *topo, uint64_t from, uint64_t to,
                 int strict, place_fail_t *ret_fail);

/* The failure SHORT of these figures, in words; node -1: none in particular. */
void place_short(int size, int node, uint64_t wanted, uint64_t free, place_fail_t *ret_fail);

/* What a create comes to. */
typedef struct place_plan {
  place_layout_t layout;
  uint64_t page_cnt; /* that are taken at first */
  char why[256];     /* why pages of this size: "2M: ..."; "" if they were asked for */
} place_plan_t;

/* Plans a create of size bytes that can grow to max_size (>= size > 0) bytes: with pages of
   page_size, or, if that is 0, of the largest that fit the size, are to be had and waste at most
   1/8 of what they take. 0 and *ret_plan, or 1 and *ret_fail. */
int place_plan(place_policy_t const *policy, topo_t const *topo, int strict, uint64_t size,
               uint64_t max_size, uint64_t page_size, place_plan_t *ret_plan,
               place_fail_t *ret_fail);

#endif
