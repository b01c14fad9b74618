/* The service manager's protocol: names, messages, lifeline records, and the socket's path. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/child/result.h"
#include "daemon/shell/fdnames.h"
#include "daemon/shell/lifeline.h"
#include "daemon/shell/notify.h"
#include "daemon/shell/socket.h"
#include "daemon/shell/supervise.h"
#include "daemon/shell/watchdog.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A workspace's name is short, canonical and gives its id back. */
static void names(void **state) {
  static uint64_t const ids[] = {1, 35, 36, 12345, 1UL << 32, UINT64_MAX};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
    char name[FDNAMES_WS_MAX];
    uint64_t id = 0;
    fdnames_ws(ids[i], name);
    assert_int_equal(fdnames_parse(name, strlen(name), &id), FDNAMES_IS_WORKSPACE);
    assert_int_equal(id, ids[i]);
  }
  static char const *const others[] = {"",
                                       "w",
                                       "w01",
                                       "wW",
                                       "w-1",
                                       "x1",
                                       "ll",
                                       "wkspd.socket",
                                       "wzzzzzzzzzzzzzz",
                                       "stored",
                                       "w3w5e11264sgsg"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    uint64_t id = 0;
    assert_int_equal(fdnames_parse(others[i], strlen(others[i]), &id), FDNAMES_IS_OTHER);
  }
  uint64_t id;
  assert_int_equal(fdnames_parse("l", 1, &id), FDNAMES_IS_LIFELINE);
  assert_int_equal(fdnames_parse("supervisor", 10, &id), FDNAMES_IS_SUPERVISOR);
}

/* The names of 10,000 workspaces fit the one environment string they share. */
static void names_fit(void **state) {
  size_t len = 0;
  for (uint64_t id = 1; id <= 10240; id++) {
    char name[FDNAMES_WS_MAX];
    fdnames_ws(id + 100000, name); /* ids grow over the years */
    len += strlen(name) + 1;
  }
  assert_true(len + 2 * 20000 < FDNAMES_BYTES_MAX);
}

typedef struct seen {
  unsigned cnt;
  fdnames_kind_t kinds[8];
  uint64_t ids[8];
} seen_t;

static void on_fd(void *arg, int fd, fdnames_kind_t kind, uint64_t ws_id, char const *name,
                  size_t name_len) {
  seen_t *seen = arg;
  assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  seen->kinds[seen->cnt] = kind;
  seen->ids[seen->cnt++] = ws_id;
}

/* LISTEN_* for another process are not ours; malformed ones, and a descriptor that is not open, are
 * an error and nothing is told; names are matched in order, missing ones are no names. */
static void listen_fds(void **state) {
  char error[256];
  seen_t seen = {0};
  assert_int_equal(fdnames_each(NULL, "1", "x", 5, on_fd, &seen, error, sizeof error), 0);
  assert_int_equal(fdnames_each("4", "1", "x", 5, on_fd, &seen, error, sizeof error), 0);
  assert_int_equal(fdnames_each("5", "-1", "x", 5, on_fd, &seen, error, sizeof error), -1);
  assert_int_equal(fdnames_each("5", "99999999", "x", 5, on_fd, &seen, error, sizeof error), -1);
  assert_int_equal(fdnames_each("x", "1", "x", 5, on_fd, &seen, error, sizeof error), -1);
  assert_int_equal(seen.cnt, 0);
  /* in a process of its own, where 3 to 6 may be what we like */
  pid_t pid = fork();
  if (!pid) {
    for (int fd = FDNAMES_FIRST; fd < FDNAMES_FIRST + 4; fd++) dup2(0, fd);
    close(FDNAMES_FIRST + 2);
    char const *names = "wkspd.socket:w2s:l";
    if (fdnames_each("5", "4", names, 5, on_fd, &seen, error, sizeof error) != -1 || seen.cnt ||
        !strstr(error, "5 is not open")) {
      _exit(2);
    }
    dup2(0, FDNAMES_FIRST + 2);
    int cnt = fdnames_each("5", "4", names, 5, on_fd, &seen, error, sizeof error);
    _exit(cnt == 4 && seen.cnt == 4 && seen.kinds[0] == FDNAMES_IS_OTHER &&
                  seen.kinds[1] == FDNAMES_IS_WORKSPACE && seen.ids[1] == 2 * 36 + 28 &&
                  seen.kinds[2] == FDNAMES_IS_LIFELINE && seen.kinds[3] == FDNAMES_IS_OTHER
              ? 0
              : 1);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

static int parse(char const *text, supervise_message_t *ret) {
  return supervise_parse(text, strlen(text), ret);
}

/* The supervisor reads what systemd would read, line by line, and ignores what it does not know. */
static void messages(void **state) {
  supervise_message_t message;
  assert_int_equal(parse("READY=1\nSTATUS=serving /x", &message), 1);
  assert_true(message.ready && !message.fdstore && !message.barrier);
  assert_int_equal(parse("FDSTORE=1\nFDNAME=w1z", &message), 1);
  assert_true(message.fdstore && !message.fdstore_remove);
  assert_string_equal(message.fdname, "w1z");
  assert_int_equal(parse("FDNAME=l\nFDSTORE=1\n", &message), 1);
  assert_string_equal(message.fdname, "l");
  assert_int_equal(parse("FDSTORE=1", &message), 1);
  assert_string_equal(message.fdname, "stored");
  assert_int_equal(parse("FDSTOREREMOVE=1\nFDNAME=w1", &message), 1);
  assert_true(message.fdstore_remove && !message.fdstore);
  assert_int_equal(parse("BARRIER=1", &message), 1);
  assert_true(message.barrier);
  assert_int_equal(parse("READY=0\nREADY=11\nXREADY=1\n", &message), 1);
  assert_false(message.ready);
  assert_int_equal(parse("", &message), 1);
  assert_int_equal(parse("FDSTORE=1\nFDNAME=", &message), 0);
  assert_int_equal(parse("FDSTORE=1\nFDNAME=a:b", &message), 0);
  assert_int_equal(parse("FDSTORE=1\nFDNAME=a\tb", &message), 0);
  assert_int_equal(parse("FDNAME=0123456789012345678901234567890", &message), 1);
  assert_int_equal(parse("FDNAME=01234567890123456789012345678901", &message), 0);
}

/* A lifeline's record waits at the daemon's end, is there however often one looks, and cannot be
 * pushed aside by what the client writes later, nor by its hang-up. */
static void lifeline(void **state) {
  lifeline_record_t record = {LIFELINE_MAGIC, 42, 7, ENGINE_OPEN_RO, 99, 1000, 1001}, got;
  int ends[2];
  assert_int_equal(lifeline_pair(&record, ends), 0);
  assert_true(fcntl(ends[0], F_GETFD) & FD_CLOEXEC);
  assert_true(fcntl(ends[1], F_GETFD) & FD_CLOEXEC);
  assert_int_equal(lifeline_peek(ends[0], &got), 1);
  assert_memory_equal(&got, &record, sizeof got);
  assert_int_equal(write(ends[1], "noise", 5), 5);
  close(ends[1]);
  memset(&got, 0, sizeof got);
  assert_int_equal(lifeline_peek(ends[0], &got), 1);
  assert_memory_equal(&got, &record, sizeof got);
  close(ends[0]);
}

/* A lifeline that was ended is empty for whoever holds a copy, whatever the client had written, and
 * the client can write no more. */
static void lifeline_ended(void **state) {
  lifeline_record_t record = {LIFELINE_MAGIC, 42, 7, ENGINE_OPEN_RW, 99, 0, 0};
  static char const noise[30000];
  char byte;
  int ends[2];
  assert_int_equal(lifeline_pair(&record, ends), 0);
  int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 3);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(send(ends[1], noise, sizeof noise, MSG_NOSIGNAL), (ssize_t)sizeof noise);
  }
  assert_int_equal(recv(copy, &byte, 1, MSG_PEEK | MSG_DONTWAIT), 1);
  lifeline_end(ends[0]);
  assert_int_equal(recv(copy, &byte, 1, MSG_PEEK | MSG_DONTWAIT), 0);
  assert_int_equal(send(ends[1], noise, 1, MSG_NOSIGNAL), -1);
  struct pollfd poll_fd = {.fd = copy};
  assert_int_equal(poll(&poll_fd, 1, 0), 1);
  assert_true(poll_fd.revents & POLLHUP);
  close(copy);
  close(ends[0]);
  close(ends[1]);
}

/* Records that the daemon did not write are none: too short, another magic, impossible ids. */
static void not_lifelines(void **state) {
  lifeline_record_t good = {LIFELINE_MAGIC, 42, 7, ENGINE_OPEN_RW, 99, 0, 0}, bad[5], got;
  for (int i = 0; i < 5; i++) bad[i] = good;
  bad[0].magic++;
  bad[1].lease_id = 0;
  bad[2].lease_id = RESULT_LEASE_FIRST;
  bad[3].ws_id = 0;
  bad[4].mode = 2;
  for (int i = 0; i < 5; i++) {
    int ends[2];
    assert_int_equal(lifeline_pair(&bad[i], ends), 0);
    assert_int_equal(lifeline_peek(ends[0], &got), 0);
    close(ends[0]);
    close(ends[1]);
  }
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  assert_int_equal(lifeline_peek(ends[0], &got), 0); /* nothing there: does not block */
  assert_int_equal(write(ends[1], &good, sizeof good - 1), (ssize_t)sizeof good - 1);
  assert_int_equal(lifeline_peek(ends[0], &got), 0);
  close(ends[0]);
  close(ends[1]);
  int pair[2];
  assert_int_equal(pipe(pair), 0);
  assert_int_equal(lifeline_peek(pair[0], &got), 0);
  close(pair[0]);
  close(pair[1]);
}

/* A manager on a real socket: takes a message; its descriptor, -1 if none came. */
static int manager_take(int sock, char *text, size_t cap) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec iov = {text, cap - 1};
  struct msghdr msg = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
  ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  text[n > 0 ? n : 0] = '\0';
  struct cmsghdr *cmsg = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
  int fd = -1;
  if (cmsg) memcpy(&fd, CMSG_DATA(cmsg), sizeof fd);
  return fd;
}

static int manager_open(char ret_name[64]) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  socklen_t len = sizeof(sa_family_t);
  int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(sock, (struct sockaddr *)&addr, len), 0);
  len = sizeof addr;
  assert_int_equal(getsockname(sock, (struct sockaddr *)&addr, &len), 0);
  size_t name_len = len - sizeof(sa_family_t);
  memcpy(ret_name, addr.sun_path, name_len);
  ret_name[0] = '@';
  ret_name[name_len] = '\0';
  return sock;
}

static void on_done(void *arg, int ok) {
  *(int *)arg = ok ? 1 : -1;
}

/* Messages arrive in order, also those that waited for a slow manager, and a barrier is done when,
 * and only when, the manager closes what came with it. */
static void manager(void **state) {
  log_t log = {.fd = 2, .level = LOG_LEVEL_ERROR};
  uv_loop_t uv;
  char name[64], text[600], want[64];
  int done = 0;
  uv_loop_init(&uv);
  int sock = manager_open(name);
  notify_t *notify = notify_open(&uv, &log, name);
  assert_true(notify_active(notify));
  enum { MANY = 700 }; /* more than any socket's queue */
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(notify_send(notify, i % 2 ? 0 : -1, "STATUS=%d", i), 0);
  }
  notify_barrier(notify, on_done, &done);
  for (int i = 0; i < MANY; i++) {
    uv_run(&uv, UV_RUN_NOWAIT);
    int fd = manager_take(sock, text, sizeof text);
    snprintf(want, sizeof want, "STATUS=%d", i);
    assert_string_equal(text, want);
    assert_int_equal(fd >= 0, i % 2);
    if (fd >= 0) close(fd);
  }
  uv_run(&uv, UV_RUN_NOWAIT);
  int fd = manager_take(sock, text, sizeof text);
  assert_string_equal(text, "BARRIER=1");
  assert_true(fd >= 0);
  uv_run(&uv, UV_RUN_NOWAIT);
  assert_int_equal(done, 0);
  close(fd);
  while (!done) uv_run(&uv, UV_RUN_ONCE);
  assert_int_equal(done, 1);

  /* our supervisor: it stored all, or not, or could not even take the message */
  static char const words[] = {NOTIFY_STORED, NOTIFY_NOT_STORED, 0};
  notify_answers(notify);
  for (unsigned i = 0; i < sizeof words; i++) {
    done = 0;
    notify_barrier(notify, on_done, &done);
    fd = manager_take(sock, text, sizeof text);
    if (words[i]) assert_int_equal(write(fd, &words[i], 1), 1);
    close(fd);
    while (!done) uv_run(&uv, UV_RUN_ONCE);
    assert_int_equal(done, i ? -1 : 1);
  }
  notify_close(notify);
  uv_run(&uv, UV_RUN_DEFAULT);
  close(sock);
  assert_int_equal(uv_loop_close(&uv), 0);
}

/* A manager that goes away fails its barriers and later messages; without one there is nothing to
 * wait for. */
static void manager_gone(void **state) {
  log_t log = {.fd = open("/dev/null", O_WRONLY | O_CLOEXEC), .level = LOG_LEVEL_ERROR};
  uv_loop_t uv;
  char name[64], text[600];
  int done = 0, later = 0, never = 0;
  uv_loop_init(&uv);
  int sock = manager_open(name);
  notify_t *notify = notify_open(&uv, &log, name);
  notify_barrier(notify, on_done, &done);
  assert_int_equal(notify_send(notify, -1, "STATUS=1"), 0);
  int fd = manager_take(sock, text, sizeof text);
  close(sock);
  notify_send(notify, -1, "STATUS=2");
  assert_false(notify_active(notify));
  assert_int_equal(done, -1);
  notify_barrier(notify, on_done, &later);
  assert_int_equal(later, -1);
  assert_int_equal(notify_send(notify, -1, "STATUS=3"), 1);
  close(fd);
  notify_close(notify);
  notify = notify_open(&uv, &log, NULL);
  assert_false(notify_active(notify));
  notify_barrier(notify, on_done, &never);
  assert_int_equal(never, -1);
  notify_close(notify);
  uv_run(&uv, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&uv), 0);
  close(log.fd);
}

/* The keep-alive goes out at half of the manager's time, to nobody who did not ask and for no other
 * process; what is no number is told apart. */
static void watchdog_period(void **state) {
  assert_int_equal(watchdog_period_ms(NULL, NULL, 7), 0);
  assert_int_equal(watchdog_period_ms("", "7", 7), 0);
  assert_int_equal(watchdog_period_ms("60000000", NULL, 7), 30000);
  assert_int_equal(watchdog_period_ms("60000000", "7", 7), 30000);
  assert_int_equal(watchdog_period_ms("60000000", "8", 7), 0);
  assert_int_equal(watchdog_period_ms("2000", "7", 7), 1);
  assert_int_equal(watchdog_period_ms("18446744073709551615", "7", 7), 86400000);
  static char const *const bad[] = {"0", "1999", "-1", " 1", "x", "60s", "18446744073709551616"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(watchdog_period_ms(bad[i], "7", 7), -1);
  }
  assert_int_equal(watchdog_period_ms("60000000", "x", 7), -1);
}

/* The loop tells the manager that it turns, at once and again and again; with an environment that
 * says nothing, or nonsense, it does not. */
static void watchdog(void **state) {
  static char const *const asked[] = {NULL, "nonsense", "10000"};
  log_t log = {.fd = open("/dev/null", O_WRONLY | O_CLOEXEC), .level = LOG_LEVEL_ERROR};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    uv_loop_t uv;
    watchdog_t dog;
    char name[64], text[600];
    uv_loop_init(&uv);
    int sock = manager_open(name);
    notify_t *notify = notify_open(&uv, &log, name);
    if (asked[i]) assert_int_equal(setenv("WATCHDOG_USEC", asked[i], 1), 0);
    watchdog_start(&dog, &uv, notify, &log);
    assert_int_equal(unsetenv("WATCHDOG_USEC"), 0);
    if (i < 2) {
      uv_run(&uv, UV_RUN_NOWAIT);
      assert_int_equal(manager_take(sock, text, sizeof text), -1);
      assert_string_equal(text, "");
    }
    for (int told = 0; i == 2 && told < 3; told++) {
      do {
        uv_run(&uv, UV_RUN_ONCE);
        assert_int_equal(manager_take(sock, text, sizeof text), -1);
      } while (!*text);
      assert_string_equal(text, "WATCHDOG=1");
    }
    uv_close((uv_handle_t *)&dog.timer, NULL);
    notify_close(notify);
    uv_run(&uv, UV_RUN_DEFAULT);
    close(sock);
    assert_int_equal(uv_loop_close(&uv), 0);
  }
  close(log.fd);
}

/* In a child: socket_listen must fail with a sentence that holds part. */
static int refused_elsewhere(char const *path, char const *part) {
  pid_t pid = fork();
  if (!pid) {
    socket_at_t at;
    char error[CONFIG_ERROR_MAX] = "";
    int bad = socket_listen(&at, path, error);
    _exit(bad && strstr(error, path) && strstr(error, part) ? 0 : 1);
  }
  int status = 1;
  waitpid(pid, &status, 0);
  return status == 0;
}

/* A path that is served cannot be taken, a stale one is replaced, another's file is left alone, and
 * release leaves nothing. */
static void socket_path(void **state) {
  char dir[] = "/tmp/wkspd-socket-XXXXXX", path[64], lock[80], error[CONFIG_ERROR_MAX];
  socket_at_t at;
  assert_non_null(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/below/sock", dir);
  snprintf(lock, sizeof lock, "%s.lock", path);
  assert_int_equal(socket_listen(&at, path, error), 0);
  assert_true(refused_elsewhere(path, "served by process"));

  /* the lock is gone with its holder, the socket still answers */
  close(at.lock_fd);
  at.lock_fd = -1;
  assert_true(refused_elsewhere(path, "live daemon"));

  /* nobody answers: stale */
  close(at.fd);
  assert_int_equal(socket_listen(&at, path, error), 0);
  socket_release(&at);
  assert_int_equal(access(path, F_OK), -1);
  assert_int_equal(access(lock, F_OK), -1);

  /* not a socket */
  int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  close(fd);
  assert_int_equal(socket_listen(&at, path, error), 1);
  assert_non_null(strstr(error, "not a socket"));
  assert_int_equal(unlink(path), 0);

  /* a file that another put there since is not removed */
  assert_int_equal(socket_listen(&at, path, error), 0);
  assert_int_equal(unlink(path), 0);
  fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  close(fd);
  socket_release(&at);
  assert_int_equal(access(path, F_OK), 0);
  assert_int_equal(unlink(path), 0);
  snprintf(path, sizeof path, "%s/below", dir);
  assert_int_equal(rmdir(path), 0);
  assert_int_equal(rmdir(dir), 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(names),         cmocka_unit_test(names_fit),
      cmocka_unit_test(listen_fds),    cmocka_unit_test(messages),
      cmocka_unit_test(lifeline),      cmocka_unit_test(lifeline_ended),
      cmocka_unit_test(not_lifelines), cmocka_unit_test(manager),
      cmocka_unit_test(manager_gone),  cmocka_unit_test(watchdog_period),
      cmocka_unit_test(watchdog),      cmocka_unit_test(socket_path),
  };
  return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
