/* Opens with a real memory; see test_bed.h. */

#include "client/test_bed.h"

#include "core/layout.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void memory_init(bed_memory_t *memory, char const *name) {
  *memory = (bed_memory_t){.fd = -1};
  memory->fd = memfd_create("attach_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_true(memory->fd >= 0);
  assert_int_equal(ftruncate(memory->fd, BED_MEMORY_SIZE), 0);
  assert_int_equal(fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  void *map = mmap(NULL, BED_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
  assert_true(map != MAP_FAILED);
  ulong part_max = fd_wksp_part_max_est(BED_MEMORY_SIZE, 0);
  assert_non_null(
      fd_wksp_new(map, name, 11, part_max, fd_wksp_data_max_est(BED_MEMORY_SIZE, part_max)));
  memcpy(memory->uuid, ((struct fd_wksp *)map)->uuid, 16);
  assert_int_equal(munmap(map, BED_MEMORY_SIZE), 0);
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memory->fd);
  memory->fd_ro = open(path, O_RDONLY | O_CLOEXEC);
  assert_true(memory->fd_ro >= 0);
}

static void memory_free(bed_memory_t *memory) {
  (void)close(memory->fd);
  (void)close(memory->fd_ro);
  for (int i = 0; i < memory->lease_cnt; i++) (void)close(memory->leases[i]);
}

int bed_lease_ended(bed_t const *bed, int lease) {
  struct pollfd polled = {.fd = bed->memory.leases[lease], .events = POLLIN};
  return poll(&polled, 1, 0) == 1 && (polled.revents & POLLHUP);
}

static void serve_open(peer_t *peer, bed_serve_t const *serve) {
  bed_memory_t *memory = serve->memory;
  Wkspd__V1__OpenRequest *request = wkspd__v1__open_request__unpack(
      NULL, peer->request->payload.len, peer->request->payload.data);
  PEER_CHECK(peer, request);
  int ro = request->mode == WKSPD__V1__OPEN_MODE__OPEN_READ_ONLY;
  char name[64];
  (void)snprintf(name, sizeof name, "%s", request->name);
  wkspd__v1__open_request__free_unpacked(request, NULL);

  int pair[2];
  PEER_CHECK(peer, memory->lease_cnt < BED_LEASE_MAX);
  PEER_CHECK(peer, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  int lease = memory->lease_cnt++;
  memory->leases[lease] = pair[0];

  uint8_t uuid[16];
  memcpy(uuid, memory->uuid, 16);
  uuid[3] ^= (uint8_t)serve->wrong_uuid;
  Wkspd__V1__Workspace workspace = WKSPD__V1__WORKSPACE__INIT;
  workspace.name = name;
  workspace.uuid = (ProtobufCBinaryData){.len = 16, .data = uuid};
  workspace.size = BED_MEMORY_SIZE;
  workspace.page_size = serve->quarantined ? 0 : 4096;
  workspace.quarantined = serve->quarantined;
  Wkspd__V1__OpenResponse response = WKSPD__V1__OPEN_RESPONSE__INIT;
  response.workspace = &workspace;
  response.lease_id = serve->wrong_lease ? 1UL << 30 : (uint64_t)lease + 1;
  response.map_size = serve->map_size ? serve->map_size : BED_MEMORY_SIZE;
  response.layout_version = WKSP_LAYOUT_VERSION + (uint32_t)serve->wrong_layout;
  response.geometry_hash = wksp__geometry_hash() ^ (uint64_t)serve->wrong_hash;
  response.fds = serve->fds_declared ? serve->fds_declared - 1 : 2;

  int fds[16];
  for (int i = 0; i < 16; i++) fds[i] = pair[1];
  fds[0] = serve->fd ? serve->fd : ro ? memory->fd_ro : memory->fd;
  if (serve->wrong_memory_kind) fds[0] = pair[1];
  if (serve->wrong_lifeline) fds[1] = memory->fd;
  size_t fd_cnt = serve->fds_sent ? serve->fds_sent - 1 : 2;

  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 65536);
  if (serve->merged) peer_response_put(peer, &buf, 99, 5, "an old answer", NULL);
  peer_response_put(peer, &buf, peer->stream, 0, NULL, &response.base);
  if (serve->in_pieces) {
    for (size_t i = 0; i < buf.len; i++) {
      peer_send(peer, ttrpc_buf_head(&buf) + i, 1, fds, i ? 0 : fd_cnt);
      peer_wait_taken(peer);
    }
  } else {
    peer_send(peer, ttrpc_buf_head(&buf), buf.len, fds, fd_cnt);
  }
  ttrpc_buf_free(&buf);
  (void)close(pair[1]);
}

void bed_script(peer_t *peer, void *arg) {
  bed_serve_t const *serve = arg;
  peer_accept(peer);
  for (int i = 0; i < serve->cnt; i++) {
    if (serve->accept_at == i + 1) peer_accept(peer);
    uint8_t byte;
    struct pollfd polled = {.fd = peer->fd, .events = POLLIN};
    PEER_CHECK(peer, poll(&polled, 1, PEER_PATIENCE_MS) == 1);
    if (recv(peer->fd, &byte, 1, MSG_PEEK) <= 0) peer_accept(peer);
    peer_request(peer, "Open");
    serve_open(peer, serve);
  }
}

void bed_serve(bed_t *bed, bed_serve_t serve) {
  bed->serve = serve;
  bed->serve.memory = &bed->memory;
  if (!bed->serve.cnt) bed->serve.cnt = 1;
  peer_start(&bed->peer, bed_script, &bed->serve);
  if (bed->client) return;
  bed->client = wksp_client_connect(bed->peer.path);
  assert_non_null(bed->client);
}

void bed_served(bed_t *bed) {
  peer_join(&bed->peer);
  wksp_client_close(bed->client);
  bed->client = NULL;
  peer_hangup(&bed->peer);
}

int bed_setup(void **state) {
  static bed_t bed;
  memset(&bed, 0, sizeof bed);
  memory_init(&bed.memory, "w");
  peer_init(&bed.peer);
  *state = &bed;
  bed.fds = peer_fd_count();
  return 0;
}

int bed_teardown(void **state) {
  bed_t *bed = *state;
  memory_free(&bed->memory);
  peer_free(&bed->peer);
  return 0;
}
