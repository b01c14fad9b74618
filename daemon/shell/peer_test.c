/* peer on a real socketpair and a real loop. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/peer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct world {
  uv_loop_t uv;
  fair_t fair;
  peer_t *peer; /* NULL once closed */
  int client;   /* the other end, non-blocking */
  int frames;
  ttrpc_header_t last;
  uint8_t data[64];
  int oversize;
  char const *why;
  int violation;
  int close_in_frame, hold_in_frame;
  uv_timer_t timer;
} world_t;

static void on_frame(void *arg, peer_t *peer, ttrpc_frame_t const *frame) {
  world_t *world = arg;
  world->frames++;
  world->last = frame->header;
  world->oversize = frame->oversize;
  if (frame->data && frame->header.length <= sizeof world->data) {
    memcpy(world->data, frame->data, frame->header.length);
  }
  if (world->hold_in_frame) peer_hold(peer);
  if (world->close_in_frame) {
    peer_close(peer);
    world->peer = NULL;
  }
}

static void on_closed(void *arg, peer_t *peer, char const *why, int violation) {
  world_t *world = arg;
  assert_ptr_equal(world->peer, peer);
  world->peer = NULL;
  world->why = why;
  world->violation = violation;
}

static peer_ops_t const ops = {on_frame, on_closed};

static int setup_ms(void **state, unsigned half_frame_ms) {
  world_t *world = calloc(1, sizeof *world);
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  assert_int_equal(uv_loop_init(&world->uv), 0);
  world->client = ends[1];
  assert_int_equal(fair_start(&world->fair, &world->uv), 0);
  world->peer = peer_new(&world->uv, &world->fair, ends[0], 1000, half_frame_ms, &ops, world);
  assert_non_null(world->peer);
  *state = world;
  return 0;
}

static int setup(void **state) {
  return setup_ms(state, PEER_HALF_FRAME_MS);
}

static int setup_hasty(void **state) {
  return setup_ms(state, 30);
}

static int teardown(void **state) {
  world_t *world = *state;
  if (world->peer) peer_close(world->peer);
  if (world->client >= 0) close(world->client);
  fair_stop(&world->fair);
  uv_run(&world->uv, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&world->uv), 0);
  assert_int_equal(world->fair.users.cnt, 0);
  assert_int_equal(world->fair.held, 0);
  fair_free(&world->fair);
  free(world);
  return 0;
}

/* Turns the loop until nothing is ready. */
static void turn(world_t *world) {
  for (int i = 0; i < 64; i++) uv_run(&world->uv, UV_RUN_NOWAIT);
}

static void put(world_t *world, void const *bytes, size_t len) {
  assert_int_equal(send(world->client, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static size_t frame_bytes(uint8_t *ret, uint32_t length, uint32_t stream, uint8_t type) {
  ttrpc_header_t header = {length, stream, type, 0};
  ttrpc_header_put(&header, ret);
  return TTRPC_HEADER_SIZE;
}

static void stop_loop(uv_timer_t *timer) {
  uv_stop(timer->loop);
}

/* A peer on hold hands nothing on, neither what has been read nor what comes, until it goes on;
   then all of it, in order. */
static void held_until_it_goes_on(void **state) {
  world_t *world = *state;
  uint8_t bytes[3 * TTRPC_HEADER_SIZE];
  for (uint32_t i = 0; i < 3; i++)
    frame_bytes(bytes + i * TTRPC_HEADER_SIZE, 0, 2 * i + 1, TTRPC_REQUEST);
  world->hold_in_frame = 1;
  uv_timer_init(&world->uv, &world->timer); /* a loop with nothing to wait for does not turn */
  uv_timer_start(&world->timer, stop_loop, 3600000, 0);
  put(world, bytes, 2 * TTRPC_HEADER_SIZE);
  turn(world);
  put(world, bytes + 2 * TTRPC_HEADER_SIZE, TTRPC_HEADER_SIZE);
  turn(world);
  for (int i = 1; i <= 3; i++) {
    assert_int_equal(world->frames, i);
    assert_int_equal(world->last.stream, 2 * i - 1);
    peer_go_on(world->peer);
    turn(world);
  }
  assert_int_equal(world->frames, 3);
  uv_close((uv_handle_t *)&world->timer, NULL);
}

/* A frame that comes byte by byte is handed over once, whole, after its last byte. */
static void frame_in_pieces(void **state) {
  world_t *world = *state;
  uint8_t bytes[TTRPC_HEADER_SIZE + 5];
  frame_bytes(bytes, 5, 7, TTRPC_REQUEST);
  memcpy(bytes + TTRPC_HEADER_SIZE, "hello", 5);
  for (size_t i = 0; i < sizeof bytes; i++) {
    assert_int_equal(world->frames, 0);
    put(world, bytes + i, 1);
    turn(world);
  }
  assert_int_equal(world->frames, 1);
  assert_int_equal(world->last.stream, 7);
  assert_memory_equal(world->data, "hello", 5);
}

/* A client that hangs up, between frames or within one, closes the peer without a violation. */
static void hangup(void **state) {
  world_t *world = *state;
  put(world, "\0\0", 2);
  turn(world);
  close(world->client);
  world->client = -1;
  turn(world);
  assert_null(world->peer);
  assert_int_equal(world->violation, 0);
  assert_string_equal(world->why, "it hung up within a frame");
}

/* Half a frame and then silence is a violation after the time for it, and not before it. */
static void half_frame(void **state) {
  world_t *world = *state;
  uint64_t began = uv_hrtime();
  put(world, "\0\0\0", 3);
  while (world->peer) uv_run(&world->uv, UV_RUN_ONCE);
  assert_true(uv_hrtime() - began >= 29UL * 1000000UL);
  assert_int_equal(world->violation, 1);
  assert_string_equal(world->why, "half a frame and then silence");
}

/* A client that is silent between frames is left alone. */
static void silence(void **state) {
  world_t *world = *state;
  uint8_t bytes[TTRPC_HEADER_SIZE];
  frame_bytes(bytes, 0, 1, TTRPC_REQUEST);
  put(world, bytes, sizeof bytes);
  uv_timer_init(&world->uv, &world->timer);
  uv_timer_start(&world->timer, stop_loop, 90, 0);
  uv_run(&world->uv, UV_RUN_DEFAULT);
  uv_close((uv_handle_t *)&world->timer, NULL);
  assert_non_null(world->peer);
  assert_int_equal(world->frames, 1);
}

/* A header that announces gigabytes closes the connection as a violation at once. */
static void absurd(void **state) {
  world_t *world = *state;
  uint8_t bytes[TTRPC_HEADER_SIZE];
  frame_bytes(bytes, 0xfffffff0U, 1, TTRPC_REQUEST);
  put(world, bytes, sizeof bytes);
  turn(world);
  assert_null(world->peer);
  assert_int_equal(world->violation, 1);
}

/* A frame a little over the limit is discarded, handed over as oversize, and the next is found. */
static void oversize(void **state) {
  world_t *world = *state;
  uint8_t bytes[TTRPC_HEADER_SIZE];
  size_t left = TTRPC_DATA_MAX + 1;
  uint8_t *zeroes = calloc(1, 65536);
  frame_bytes(bytes, TTRPC_DATA_MAX + 1, 1, TTRPC_REQUEST);
  put(world, bytes, sizeof bytes);
  while (left) {
    ssize_t n = send(world->client, zeroes, left < 65536 ? left : 65536, MSG_NOSIGNAL);
    if (n > 0) left -= (size_t)n;
    turn(world);
  }
  free(zeroes);
  assert_int_equal(world->frames, 1);
  assert_int_equal(world->oversize, 1);
  frame_bytes(bytes, 0, 3, TTRPC_REQUEST);
  put(world, bytes, sizeof bytes);
  turn(world);
  assert_int_equal(world->frames, 2);
  assert_int_equal(world->oversize, 0);
  assert_int_equal(world->last.stream, 3);
}

/* Receives n bytes at most; descriptors that came go to fds. */
static ssize_t get(world_t *world, void *bytes, size_t len, int *fds, unsigned *ret_cnt) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * 8)];
  } control;
  struct iovec iov = {bytes, len};
  struct msghdr msg = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
  ssize_t n = recvmsg(world->client, &msg, MSG_CMSG_CLOEXEC);
  *ret_cnt = 0;
  if (n < 0) return n;
  for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
    unsigned cnt = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(cmsg), cnt * sizeof(int));
    *ret_cnt += cnt;
  }
  return n;
}

/* Descriptors come with the first byte of their frame and with no other, also when earlier frames
 * still wait in the queue. */
static void fds_with_first_byte(void **state) {
  world_t *world = *state;
  size_t big = 1 << 20;
  uint8_t *data = calloc(1, big);
  int pair[2], fds[8];
  unsigned cnt;
  assert_int_equal(pipe(pair), 0);
  assert_int_equal(peer_send(world->peer, 1, TTRPC_RESPONSE, 0, data, big, NULL, 0), 0);
  assert_int_equal(peer_send(world->peer, 3, TTRPC_RESPONSE, 0, "ab", 2, pair, 2), 0);
  assert_int_equal(peer_send(world->peer, 5, TTRPC_RESPONSE, 0, "c", 1, NULL, 0), 0);
  size_t seen = 0, fds_at = big + TTRPC_HEADER_SIZE, end = big + 3 * TTRPC_HEADER_SIZE + 3;
  int came = 0;
  for (size_t i = 0; seen < end && i < 100000; i++) {
    uint8_t bytes[4096];
    turn(world);
    ssize_t n = get(world, bytes, sizeof bytes, fds, &cnt);
    if (n <= 0) continue;
    if (cnt) {
      /* the kernel may give earlier bytes in the same read, but never this one in a later read */
      assert_true(seen <= fds_at && fds_at < seen + (size_t)n);
      assert_int_equal(cnt, 2);
      came++;
      close(fds[0]);
      close(fds[1]);
    }
    seen += (size_t)n;
  }
  assert_int_equal(seen, end);
  assert_int_equal(came, 1);
  free(data);
}

/* Descriptors of a frame that cannot be sent are closed all the same. */
static void fds_are_closed(void **state) {
  world_t *world = *state;
  int pair[2];
  assert_int_equal(pipe(pair), 0);
  peer_close(world->peer);
  assert_int_equal(peer_send(world->peer, 1, TTRPC_RESPONSE, 0, "a", 1, pair, 2), 1);
  world->peer = NULL;
  assert_int_equal(fcntl(pair[0], F_GETFD), -1);
  assert_int_equal(fcntl(pair[1], F_GETFD), -1);
}

/* A client that does not read: requests stop being read from PEER_OUT_HIGH on, and sending is
 * refused at PEER_OUT_MAX; nothing grows beyond. */
static void unread(void **state) {
  world_t *world = *state;
  uint8_t *data = calloc(1, TTRPC_DATA_MAX), header[TTRPC_HEADER_SIZE];
  unsigned sent = 0;
  frame_bytes(header, 0, 1, TTRPC_REQUEST);
  while (!peer_send(world->peer, 1, TTRPC_RESPONSE, 0, data, TTRPC_DATA_MAX, NULL, 0)) sent++;
  assert_true(sent >= 3 && sent <= 5);
  put(world, header, sizeof header);
  turn(world);
  assert_int_equal(world->frames, 0);
  /* and goes on once it does read */
  for (size_t i = 0; !world->frames && i < 100000; i++) {
    ssize_t n = recv(world->client, data, TTRPC_DATA_MAX, 0);
    if (n < 0) turn(world);
  }
  assert_int_equal(world->frames, 1);
  free(data);
}

/* A peer may be closed while it hands a frame over. */
static void close_within(void **state) {
  world_t *world = *state;
  uint8_t bytes[3 * TTRPC_HEADER_SIZE];
  for (uint32_t i = 0; i < 3; i++) {
    frame_bytes(bytes + i * TTRPC_HEADER_SIZE, 0, 2 * i + 1, TTRPC_REQUEST);
  }
  world->close_in_frame = 1;
  put(world, bytes, sizeof bytes);
  turn(world);
  assert_int_equal(world->frames, 1);
  assert_null(world->why);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(frame_in_pieces, setup, teardown),
      cmocka_unit_test_setup_teardown(held_until_it_goes_on, setup, teardown),
      cmocka_unit_test_setup_teardown(hangup, setup, teardown),
      cmocka_unit_test_setup_teardown(half_frame, setup_hasty, teardown),
      cmocka_unit_test_setup_teardown(silence, setup_hasty, teardown),
      cmocka_unit_test_setup_teardown(absurd, setup, teardown),
      cmocka_unit_test_setup_teardown(oversize, setup, teardown),
      cmocka_unit_test_setup_teardown(fds_with_first_byte, setup, teardown),
      cmocka_unit_test_setup_teardown(fds_are_closed, setup, teardown),
      cmocka_unit_test_setup_teardown(unread, setup, teardown),
      cmocka_unit_test_setup_teardown(close_within, setup, teardown),
  };
  return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
