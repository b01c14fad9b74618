/* fair on a real loop, with items that do nothing but take time. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/fair.h"

#include <stdlib.h>

#define ITEMS 64

/* Time passes where a test says so. */
static uint64_t clock_ns;

static uint64_t now(void) {
  return clock_ns += 10;
}

typedef struct world world_t;

typedef struct thing {
  fair_item_t item;
  world_t *world;
  unsigned left; /* turns that it wants */
  int slow;      /* each takes more than a turn's time */
  int ends;      /* it goes in its turn */
  unsigned turns;
} thing_t;

struct world {
  uv_loop_t uv;
  uv_idle_t busy; /* the loop has something to do in each round */
  fair_t fair;
  thing_t things[ITEMS];
  uint32_t order[4096]; /* uids, as they had turns */
  unsigned order_cnt;
};

static void thing_end(thing_t *thing) {
  fair_user_t *user = thing->item.user;
  fair_drop(&thing->world->fair, &thing->item);
  thing->item.user = NULL;
  fair_user_give(&thing->world->fair, user);
}

static int on_turn(fair_item_t *item) {
  thing_t *thing = (thing_t *)item;
  world_t *world = thing->world;
  if (world->order_cnt < 4096) world->order[world->order_cnt++] = item->user->uid;
  thing->turns++;
  if (thing->slow) clock_ns += FAIR_TURN_NS;
  if (thing->ends) {
    thing_end(thing);
    return 1;
  }
  return thing->left && --thing->left;
}

static thing_t *thing_new(world_t *world, unsigned at, uint32_t uid, unsigned turns) {
  thing_t *thing = &world->things[at];
  thing->world = world;
  thing->left = turns;
  thing->item.turn = on_turn;
  thing->item.user = fair_user_take(&world->fair, uid);
  assert_non_null(thing->item.user);
  fair_ready(&world->fair, &thing->item);
  fair_ready(&world->fair, &thing->item); /* once is enough */
  return thing;
}

static void on_busy(uv_idle_t *idle) {
}

static int setup(void **state) {
  world_t *world = calloc(1, sizeof *world);
  assert_int_equal(uv_loop_init(&world->uv), 0);
  assert_int_equal(fair_start(&world->fair, &world->uv), 0);
  world->fair.now = world->fair.worked = now;
  uv_idle_init(&world->uv, &world->busy);
  uv_idle_start(&world->busy, on_busy);
  *state = world;
  return 0;
}

static int teardown(void **state) {
  world_t *world = *state;
  for (int i = 0; i < ITEMS; i++)
    if (world->things[i].item.user) thing_end(&world->things[i]);
  assert_int_equal(world->fair.users.cnt, 0);
  assert_null(world->fair.first);
  fair_stop(&world->fair);
  uv_close((uv_handle_t *)&world->busy, NULL);
  uv_run(&world->uv, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&world->uv), 0);
  fair_free(&world->fair);
  free(world);
  return 0;
}

static void rounds(world_t *world, int cnt) {
  for (int i = 0; i < cnt; i++) uv_run(&world->uv, UV_RUN_NOWAIT);
}

/* Whoever wants turns gets as many as he wants, and the loop then waits again. */
static void all_are_served(void **state) {
  world_t *world = *state;
  for (unsigned i = 0; i < ITEMS; i++) thing_new(world, i, i % 3, 1 + i);
  while (world->fair.first) uv_run(&world->uv, UV_RUN_NOWAIT);
  for (unsigned i = 0; i < ITEMS; i++) assert_int_equal(world->things[i].turns, 1 + i);
  assert_false(uv_is_active((uv_handle_t *)&world->fair.idle));
}

/* However many items one uid has, another's gets every second turn, when each takes a turn's time;
   and within a uid they take turns. */
static void by_uid(void **state) {
  world_t *world = *state;
  for (unsigned i = 1; i < ITEMS; i++) thing_new(world, i, 7, 1000)->slow = 1;
  thing_new(world, 0, 8, 40)->slow = 1;
  while (world->things[0].left) uv_run(&world->uv, UV_RUN_NOWAIT);
  unsigned before = 0;
  for (unsigned i = 0; i < world->order_cnt && world->things[0].turns; i++) {
    before += world->order[i] == 7;
    if (world->order[i] == 8) assert_true(before <= i / 2 + 1);
  }
  unsigned least = ~0U, most = 0;
  for (unsigned i = 1; i < ITEMS; i++) {
    if (world->things[i].turns < least) least = world->things[i].turns;
    if (world->things[i].turns > most) most = world->things[i].turns;
  }
  assert_true(most - least <= 1);
}

/* A turn that took longer than its time is paid back while another waits, and forgotten when nobody
   does. */
static void debts(void **state) {
  world_t *world = *state;
  thing_t *debtor = thing_new(world, 0, 7, 1000), *other = thing_new(world, 1, 8, 1000);
  debtor->slow = other->slow = 1;
  debtor->item.user->debt_ns = 10 * FAIR_TURN_NS;
  rounds(world, 5);
  assert_int_equal(debtor->turns, 0);
  assert_int_equal(other->turns, 5);
  fair_drop(&world->fair, &other->item);
  rounds(world, 1);
  assert_int_equal(debtor->turns, 1);
}

/* An item may end itself in its turn, and an item that was dropped gets none. */
static void ends(void **state) {
  world_t *world = *state;
  thing_new(world, 0, 7, 5)->ends = 1;
  thing_t *dropped = thing_new(world, 1, 7, 5);
  fair_drop(&world->fair, &dropped->item);
  rounds(world, 3);
  assert_int_equal(world->things[0].turns, 1);
  assert_int_equal(dropped->turns, 0);
  assert_non_null(fair_user(&world->fair, 7));
  thing_end(dropped);
  assert_null(fair_user(&world->fair, 7));
}

/* Who asks for one thing after the other is served, each time, before a flood goes on: between two
   of his turns the other has one, of FAIR_TURN_NS, and not more than began in it. */
static void beside_a_flood(void **state) {
  world_t *world = *state;
  for (unsigned i = 1; i < ITEMS; i++) thing_new(world, i, 7, 1000000);
  thing_t *one = thing_new(world, 0, 8, 1);
  unsigned least = 4096;
  for (int i = 0; i < 50; i++) {
    unsigned turns = one->turns;
    uint64_t since = clock_ns;
    world->order_cnt = 0;
    if (!one->item.queued) {
      one->left = 1;
      fair_ready(&world->fair, &one->item);
    }
    rounds(world, 1);
    assert_int_equal(one->turns, turns + 1);
    assert_int_equal(world->order[0], 8);
    assert_true(clock_ns - since <= FAIR_TURN_NS + 200);
    if (world->order_cnt < least) least = world->order_cnt;
  }
  assert_true(least > 10); /* nor is the flood starved */
}

/* Alone, a uid has longer turns: fewer looks at the sockets. */
static void alone(void **state) {
  world_t *world = *state;
  thing_new(world, 0, 7, 1000000);
  uint64_t since = clock_ns;
  rounds(world, 1);
  assert_true(clock_ns - since >= FAIR_ALONE_NS);
}

/* What items hold is summed for their user and in all. */
static void held(void **state) {
  world_t *world = *state;
  uint64_t a = 0, b = 0;
  thing_t *one = thing_new(world, 0, 7, 0), *two = thing_new(world, 1, 8, 0);
  fair_hold(&world->fair, one->item.user, &a, 100);
  fair_hold(&world->fair, two->item.user, &b, 11);
  fair_hold(&world->fair, one->item.user, &a, 40);
  assert_int_equal(one->item.user->held, 40);
  assert_int_equal(world->fair.held, 51);
  fair_hold(&world->fair, one->item.user, &a, 0);
  fair_hold(&world->fair, two->item.user, &b, 0);
  assert_int_equal(world->fair.held, 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(all_are_served, setup, teardown),
      cmocka_unit_test_setup_teardown(by_uid, setup, teardown),
      cmocka_unit_test_setup_teardown(debts, setup, teardown),
      cmocka_unit_test_setup_teardown(ends, setup, teardown),
      cmocka_unit_test_setup_teardown(beside_a_flood, setup, teardown),
      cmocka_unit_test_setup_teardown(alone, setup, teardown),
      cmocka_unit_test_setup_teardown(held, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
