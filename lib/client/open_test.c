/* What of the reply to an Open is believed: descriptors in any company, numbers and memories that
   do not fit, and this process's own limits. */

#include "client/test_bed.h"

#include "core/layout.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Descriptors count in order, however they are merged with earlier bytes or the reply is cut in
 * pieces; those beyond the declared ones are closed. */
static void descriptors_in_order(void **state) {
  bed_t *bed = *state;
  bed_serve_t const ways[] = {{.merged = 1},
                              {.in_pieces = 1},
                              {.fds_sent = 1 + 5},
                              {.fds_sent = 1 + 16, .merged = 1},
                              {.merged = 1, .in_pieces = 1}};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    bed_serve(bed, ways[i]);
    fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
    if (!wksp) fail_msg("way %zu: %s", i, wksp_last_error());
    bed_served(bed);
    assert_int_equal(peer_fd_count(), bed->fds + (int)i + 2);
    assert_int_equal(fd_wksp_detach(wksp), 0);
    assert_true(bed_lease_ended(bed, (int)i));
  }
}

typedef struct refusal {
  bed_serve_t serve;
  int code;
  char const *says;
} refusal_t;

/* Answers that are not believed each get their code and a sentence that says why; the lease that
 * came with them ends, and no descriptor is left. */
static void refusals(void **state) {
  bed_t *bed = *state;
  int plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  int garbage = memfd_create("garbage", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_true(plain >= 0 && garbage >= 0);
  assert_int_equal(ftruncate(plain, BED_MEMORY_SIZE), 0);
  assert_int_equal(ftruncate(garbage, BED_MEMORY_SIZE), 0);
  assert_int_equal(fcntl(garbage, F_ADD_SEALS, F_SEAL_SHRINK), 0);
  refusal_t const list[] = {
      {{.wrong_layout = 1},
       WKSP_E_VERSION,
       "layout version 2, this library (0.1.0) knows version 1"},
      {{.wrong_hash = 1}, WKSP_E_VERSION, "geometry"},
      {{.wrong_uuid = 1}, WKSP_E_CORRUPT, "uuid of another"},
      {{.wrong_lease = 1}, WKSP_E_PROTO, "lease"},
      {{.quarantined = 1}, WKSP_E_PROTO, "quarantine"},
      {{.map_size = 2 * BED_MEMORY_SIZE}, WKSP_E_PROTO, "asks to map"},
      {{.map_size = 4097}, WKSP_E_PROTO, "whole pages"},
      {{.map_size = 1UL << 62}, WKSP_E_PROTO, "too large"},
      {{.map_size = 8192}, WKSP_E_CORRUPT, "8192"},
      {{.fd = plain}, WKSP_E_PROTO, "sealed"},
      {{.fd = garbage}, WKSP_E_CORRUPT, "not a workspace"},
      {{.wrong_memory_kind = 1}, WKSP_E_PROTO, "asks to map"},
      {{.wrong_lifeline = 1}, WKSP_E_PROTO, "lifeline"},
      {{.fd = bed->memory.fd_ro}, WKSP_E_SYS, "mmap"},
      {{.fds_declared = 1 + 3, .fds_sent = 1 + 3}, WKSP_E_PROTO, "2 descriptors"},
      {{.fds_declared = 1 + 0, .fds_sent = 1 + 0}, WKSP_E_PROTO, "2 descriptors"},
      {{.fds_sent = 1 + 1}, WKSP_E_PROTO, "1 came"},
      {{.fds_sent = 1 + 0}, WKSP_E_PROTO, "0 came"},
  };
  int fds = peer_fd_count();
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
    bed_serve(bed, list[i].serve);
    assert_null(wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW));
    if (wksp_last_error_code() != list[i].code || !strstr(wksp_last_error(), list[i].says))
      fail_msg("refusal %zu: %d \"%s\"", i, wksp_last_error_code(), wksp_last_error());
    bed_served(bed);
    assert_true(bed_lease_ended(bed, (int)i));
    assert_int_equal(peer_fd_count(), fds + (int)i + 1);
  }
  (void)close(plain);
  (void)close(garbage);
}

/* In a child: attaches with room for one descriptor, then with room for all. 0, or what went wrong.
 */
static int attach_at_limit(char const *path) {
  wksp_client_t *client = wksp_client_connect(path);
  if (!client) return 1;
  int lowest = dup(0);
  (void)close(lowest);
  struct rlimit before, low;
  if (getrlimit(RLIMIT_NOFILE, &before) < 0) return 2;
  low = before;
  low.rlim_cur = (rlim_t)lowest + 1;
  if (setrlimit(RLIMIT_NOFILE, &low) < 0) return 3;
  if (wksp_client_attach(client, "w", WKSP_ATTACH_RW)) return 4;
  if (wksp_last_error_code() != WKSP_E_SYS) return 5;
  if (!strstr(wksp_last_error(), "RLIMIT_NOFILE")) return 6;
  if (dup(0) != lowest || close(lowest) < 0) return 7; /* nothing is left of the one that came */
  if (setrlimit(RLIMIT_NOFILE, &before) < 0) return 8;
  fd_wksp_t *wksp = wksp_client_attach(client, "w", WKSP_ATTACH_RW);
  if (!wksp || fd_wksp_detach(wksp) < 0) return 9;
  wksp_client_close(client);
  return 0;
}

/* A process at its limit of descriptors is told so, and can attach once it has some. */
static void out_of_descriptors(void **state) {
  bed_t *bed = *state;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) _exit(attach_at_limit(bed->peer.path));
  bed->serve = (bed_serve_t){.memory = &bed->memory, .cnt = 2};
  peer_start(&bed->peer, bed_script, &bed->serve);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  peer_join(&bed->peer);
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_int_equal(status, 0);
}

/* Whichever allocation fails, an attach says E_NOMEM and leaves neither descriptors nor a lease. */
static void without_memory(void **state) {
  bed_t *bed = *state;
  int fails = 0;
  for (long n = 0;; n++) {
    int leases = bed->memory.lease_cnt;
    bed_serve(bed, (bed_serve_t){.cnt = 1});
    peer_alloc_left = n;
    fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
    int used_up = peer_alloc_left < 0;
    peer_alloc_left = -1;
    if (!used_up) {
      assert_non_null(wksp);
      assert_int_equal(fd_wksp_detach(wksp), 0);
      bed_served(bed);
      break;
    }
    assert_null(wksp);
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
    fails++;
    if (bed->memory.lease_cnt == leases) {
      /* It failed before the peer was asked; the peer waits for its one Open. */
      wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
      assert_non_null(wksp);
      assert_int_equal(fd_wksp_detach(wksp), 0);
    }
    bed_served(bed);
    for (int i = 0; i < bed->memory.lease_cnt; i++) assert_true(bed_lease_ended(bed, i));
    assert_int_equal(peer_fd_count(), bed->fds + bed->memory.lease_cnt);
  }
  assert_true(fails > 5);
}

/* Handles that were never attached are refused, and joins without a daemon have the uuid of their
 * header. */
static void strange_handles(void **state) {
  uchar uuid[16];
  assert_int_equal(fd_wksp_detach((fd_wksp_t *)4096), WKSP_E_INVAL);
  assert_int_equal(wksp_attached_uuid((fd_wksp_t *)4096, uuid), WKSP_E_INVAL);
  assert_int_equal(wksp_attached_uuid(NULL, uuid), WKSP_E_INVAL);
  fd_wksp_t *anon = fd_wksp_new_anon("anon", 1UL << 20, 0, 1, 0);
  assert_non_null(anon);
  assert_int_equal(wksp_attached_uuid(anon, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_attached_uuid(anon, uuid), 0);
  assert_memory_equal(uuid, anon->uuid, 16);
  assert_int_equal(fd_wksp_detach(anon), WKSP_E_INVAL);
  fd_wksp_delete_anon(anon);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(descriptors_in_order, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(refusals, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(out_of_descriptors, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(without_memory, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(strange_handles, bed_setup, bed_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
