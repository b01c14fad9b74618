/* fair: whose turn it is.

   What peers send is worked off by one thread. Who has something to be done waits in the queue of
   its uid, and each round of the loop gives every uid with a queue one turn, of about
   FAIR_TURN_NS. A turn that took longer (one request is never interrupted) is paid back: while
   others wait, its uid is passed over until the debt is gone. Who comes to the round is before
   those who have had a turn and want another. So a uid that floods, from however many connections,
   costs another what is left of one turn and no more; and when nobody else waits it has all. */

#ifndef WKSPD_SHELL_FAIR_H
#define WKSPD_SHELL_FAIR_H

#include "daemon/core/idmap.h"
#include "daemon/shell/log.h"

#include <uv.h>

/* Of a uid that others are connected beside: two or three small requests, about what one costs who
   waits for it anyway. The price of a turn is one more look at the sockets. */
#define FAIR_TURN_NS 10000UL

/* Of one that has the daemon to itself. */
#define FAIR_ALONE_NS 50000UL

/* The most that a uid can come to owe: one expensive answer must not shut it out for long. */
#define FAIR_DEBT_MAX_NS 20000000UL

struct fair_item;

/* One uid, as long as it has items.
     held == the sum of what its items hold (fair_hold) */
typedef struct fair_user {
  uint32_t uid;
  unsigned refs;
  uint64_t held; /* bytes */
  uint64_t debt_ns;
  struct fair_item *first, *last; /* those that want a turn */
  struct fair_user *prev, *next;  /* users that have some */
  int queued;
  log_rate_t rate; /* of lines about what it does */
} fair_user_t;

typedef struct fair_item {
  fair_user_t *user;
  struct fair_item *prev, *next;
  int queued;
  /* Does something; 1: there is more to do. May end any item, itself too. */
  int (*turn)(struct fair_item *item);
} fair_item_t;

typedef struct fair {
  uv_check_t check;
  uv_idle_t idle;
  idmap_t users;             /* uid + 1 -> fair_user_t */
  fair_user_t *first, *last; /* the ring: queued_cnt of them */
  size_t queued_cnt;
  uint64_t until_ns; /* the end of the running turn */
  uint64_t held;     /* bytes, of all users */
  fair_item_t *running;
  fair_user_t *serving;     /* whose turn it is */
  uint64_t (*now)(void);    /* uv_hrtime, or a test's */
  uint64_t (*worked)(void); /* the processor's time, or a test's */
} fair_t;

/* On a loop, whose handles are closed by fair_stop, or by who walks them. 0 or negative (libuv). */
int fair_start(fair_t *fair, uv_loop_t *loop);
void fair_stop(fair_t *fair);

/* Frees what is left; the handles are closed. */
void fair_free(fair_t *fair);

/* The user of this uid, to be given back. NULL: no memory. */
fair_user_t *fair_user_take(fair_t *fair, uint32_t uid);
void fair_user_give(fair_t *fair, fair_user_t *user);

/* NULL: it has no items. */
fair_user_t *fair_user(fair_t const *fair, uint32_t uid);

/* The item wants a turn, in this round of the loop or the next; once is enough. */
void fair_ready(fair_t *fair, fair_item_t *item);

/* It wants none any more. */
void fair_drop(fair_t *fair, fair_item_t *item);

/* 1: the running turn is over; what is left is for the next. */
int fair_over(fair_t const *fair);

/* The item's bytes have changed from *held to now. */
void fair_hold(fair_t *fair, fair_user_t *user, uint64_t *held, uint64_t now);

#endif
