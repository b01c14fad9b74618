/* The problem: a pid is a number that another process may have by now, and what /proc says under it
   would then be said of the wrong one.

   The model: a process is looked at through a pidfd: it is got, /proc is read, and then the pidfd
   says whether the process was there all the time. For who connected the kernel keeps it with the
   socket, and SO_PEERPIDFD gives it, whatever became of the number. A kernel before 6.5 does not:
   there it is got by number when the connection is accepted, and counts if the process has the uid
   that connected. For a lease of a process that has no connection it is got by number when it is
   asked for, and the process must have begun before the lease: who began later is another.

   Refuses: to say anything of which that is not certain. */

#include "daemon/shell/clients.h"

#include "daemon/shell/rpc.h"
#include "daemon/shell/serve.h"
#include "daemon/shell/topology.h"
#include "wkspd.pb-c.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Linux 6.5. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* The kernel's clock ticks, in which /proc tells when a process began. */
#define NS_PER_S 1000000000UL

/* A file of the process's, as text; "" if it cannot be read. */
static void read_proc(int32_t pid, char const *name, char *ret_text, size_t cap) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, ret_text, cap - 1);
  if (fd >= 0) close(fd);
  ret_text[n > 0 ? n : 0] = '\0';
}

/* What protobuf takes as text. */
static void make_plain(char *text) {
  for (; *text; text++)
    if (*text < 0x20 || *text > 0x7e) *text = '?';
}

/* 1 if the process began no later than then: compared on the clock that runs on in suspend, since
   that is what the kernel tells of it. A tick more, for it rounds down. */
static int began_before(int32_t pid, uint64_t since_ns) {
  char text[1024];
  unsigned long ticks;
  struct timespec boot, real;
  read_proc(pid, "stat", text, sizeof text);
  char const *at = strrchr(text, ')'); /* the name may hold anything */
  if (!since_ns || !at ||
      sscanf(at + 1,
             " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lu",
             &ticks) != 1)
    return 0;
  clock_gettime(CLOCK_BOOTTIME, &boot);
  clock_gettime(CLOCK_REALTIME, &real);
  uint64_t age_ns = (uint64_t)boot.tv_sec * NS_PER_S + (uint64_t)boot.tv_nsec -
                    ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
  uint64_t now_ns = (uint64_t)real.tv_sec * NS_PER_S + (uint64_t)real.tv_nsec;
  return now_ns < since_ns || now_ns - since_ns <= age_ns;
}

static int has_ended(int pidfd) {
  struct pollfd wait = {.fd = pidfd, .events = POLLIN};
  return poll(&wait, 1, 0) > 0;
}

/* The pidfd that the kernel keeps with the socket, or -1. */
static int kept_by_kernel(int fd) {
  int pidfd;
  socklen_t len = sizeof pidfd;
  return fd >= 0 && !getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) ? pidfd : -1;
}

static int by_number(int32_t pid) {
  return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

int clients_kept(void) {
  int ends[2], pidfd = -1;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return 0;
  pidfd = kept_by_kernel(ends[0]);
  close(ends[0]);
  close(ends[1]);
  if (pidfd >= 0) close(pidfd);
  return pidfd >= 0;
}

/* Whether the process under that number, which does not change while its pidfd says that it has not
   ended, has this real uid. */
static int is_of(int32_t pid, uint32_t uid) {
  char text[2048];
  unsigned real;
  read_proc(pid, "status", text, sizeof text);
  char const *at = strstr(text, "\nUid:");
  return at && sscanf(at, "\nUid: %u", &real) == 1 && real == uid;
}

int clients_pidfd(int32_t pid, uint32_t uid) {
  int pidfd = by_number(pid);
  if (pidfd < 0) return -1;
  if (is_of(pid, uid) && !has_ended(pidfd)) return pidfd;
  close(pidfd);
  return -1;
}

/* A pidfd to be closed; *ret_certain: it is of who connected. -1: none. */
static int pidfd_of(clients_who_t const *who, int *ret_certain) {
  int pidfd = kept_by_kernel(who->fd);
  if (pidfd < 0 && who->pidfd >= 0) pidfd = fcntl(who->pidfd, F_DUPFD_CLOEXEC, 3);
  *ret_certain = pidfd >= 0;
  return pidfd >= 0 ? pidfd : by_number(who->pid);
}

int clients_cpu(clients_who_t const *who) {
  int certain, pidfd = pidfd_of(who, &certain);
  int cpu = topology_cpu_of(pidfd >= 0 && certain ? who->pid : 0);
  if (pidfd >= 0 && has_ended(pidfd)) cpu = topology_cpu_of(0);
  if (pidfd >= 0) close(pidfd);
  return cpu;
}

void clients_look(clients_who_t const *who, uint64_t since_ns, clients_seen_t *ret_seen) {
  clients_seen_t seen = {.ended = 1};
  char cgroup[CLIENTS_CGROUP_MAX];
  int certain, pidfd = pidfd_of(who, &certain), pid = who->pid;
  *ret_seen = seen;
  if (pidfd < 0) return;
  read_proc(pid, "comm", seen.comm, sizeof seen.comm);
  read_proc(pid, "cgroup", cgroup, sizeof cgroup);
  if (!certain) certain = began_before(pid, since_ns);
  seen.ended = has_ended(pidfd);
  close(pidfd);
  if (seen.ended) return;
  ret_seen->ended = 0;
  if (!certain) return;
  seen.comm[strcspn(seen.comm, "\n")] = '\0';
  cgroup[strcspn(cgroup, "\n")] = '\0';
  char const *path = strrchr(cgroup, ':'); /* "0::/user.slice/..." */
  snprintf(ret_seen->cgroup, sizeof ret_seen->cgroup, "%s", path ? path + 1 : "");
  memcpy(ret_seen->comm, seen.comm, sizeof seen.comm);
  make_plain(ret_seen->comm);
  make_plain(ret_seen->cgroup);
}

/* The message
 * -----------------------------------------------------------------------------------------------
 */

void clients_fill(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__ClientsRequest const *from = (Wkspd__V1__ClientsRequest const *)message;
  ret_req->u.clients.page_size = from->page_size;
  ret_req->u.clients.page_key = from->page_key;
}

static void put_held(engine_held_t const *from, Wkspd__V1__Held *ret) {
  wkspd__v1__held__init(ret);
  ret->workspace = (char *)(uintptr_t)from->workspace;
  ret->lease_id = from->lease_id;
  ret->mode = (Wkspd__V1__OpenMode)from->mode;
  ret->since_ns = from->since_ns;
  ret->removing = from->removing;
}

static void put_client(engine_client_t const *from, Wkspd__V1__Client *ret) {
  wkspd__v1__client__init(ret);
  ret->pid = from->pid;
  ret->uid = from->uid;
  ret->gid = from->gid;
  ret->since_ns = from->since_ns;
  ret->connection_cnt = from->connection_cnt;
  ret->request_cnt = from->call_cnt;
  ret->watch_cnt = from->watch_cnt;
}

/* loop NULL: the kernel is not asked. */
static uint8_t *encode(loop_t *loop, engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__ClientsResponse to = WKSPD__V1__CLIENTS_RESPONSE__INIT;
  size_t cnt = reply->u.clients.client_cnt, held_cnt = 0;
  engine_client_t const *from = reply->u.clients.clients;
  for (size_t i = 0; i < cnt; i++) held_cnt += from[i].held_cnt;
  Wkspd__V1__Client *client = calloc(cnt + 1, sizeof *client);
  Wkspd__V1__Held *held = calloc(held_cnt + 1, sizeof *held);
  clients_seen_t *seen = calloc(cnt + 1, sizeof *seen);
  void **at = calloc(cnt + held_cnt + 1, sizeof *at);
  uint8_t *bytes = NULL;
  if (client && held && seen && at) {
    size_t next = 0;
    for (size_t i = 0; i < cnt; i++) {
      put_client(&from[i], &client[i]);
      if (loop) {
        clients_who_t who = {-1, -1, from[i].pid};
        serve_peer(loop, from[i].conn, &who, &client[i].queued);
        clients_look(&who, from[i].since_ns, &seen[i]);
        client[i].comm = seen[i].comm;
        client[i].cgroup = seen[i].cgroup;
        client[i].ended = seen[i].ended;
      }
      at[i] = &client[i];
      client[i].held = (Wkspd__V1__Held **)(at + cnt + next);
      client[i].n_held = from[i].held_cnt;
      for (size_t k = 0; k < from[i].held_cnt; k++, next++) {
        put_held(&from[i].held[k], &held[next]);
        at[cnt + next] = &held[next];
      }
    }
    to.clients = (Wkspd__V1__Client **)at;
    to.n_clients = cnt;
    to.next_key = reply->u.clients.next_key;
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(client);
  free(held);
  free(seen);
  free(at);
  return bytes;
}

uint8_t *clients_encode(engine_reply_t const *reply, size_t *ret_len) {
  return encode(NULL, reply, ret_len);
}

uint8_t *clients_answer(loop_t *loop, engine_reply_t const *reply, size_t *ret_len) {
  size_t len;
  uint8_t *payload = encode(loop, reply, &len);
  uint8_t *bytes = payload ? rpc_encode_payload(payload, len, ret_len) : NULL;
  free(payload);
  return bytes;
}
