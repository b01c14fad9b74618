/* The problem: memory must outlive the daemon also where no systemd keeps its descriptors, by the
   same protocol, so that there is one mechanism and not two.

   The model: one epoll over a signalfd, the notify socket and the stored sockets. Stored
   descriptors stand in a table indexed by their own number. Only the child's messages count (the
   kernel vouches for the sender's pid); those that it sent before it died are read before the next
   one is started, so nothing that was handed over is lost. The child holds the reading end of a
   pipe ("supervisor"), whose hang-up tells it that we are gone. The state folder is locked for as
   long as we are, also between two daemons: what they keep there belongs with what is stored here.

   Two things are stricter than systemd's. A barrier is answered with a byte that says whether all
   before it was kept, so that nobody relies on what was not. And a stored socket that hangs up is
   not dropped while something waits to be read from it: a daemon reads it when it has dealt with
   the hang-up, and one that dies before leaves it to the next.

   Refuses: to know what the descriptors are; to restart a daemon that never came up the first time
   (its error is the answer); libuv. */

#include "daemon/shell/supervise.h"

#include "daemon/shell/fdnames.h"
#include "daemon/shell/notify.h"
#include "daemon/shell/socket.h"
#include "daemon/shell/store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Waits between restarts: none, 10 ms, and twice as long each time, up to a second. A daemon that
   gets ready each time and dies again serves a little in between, so it waits less. */
#define BACKOFF_MIN_MS       10
#define BACKOFF_MAX_MS       1000
#define BACKOFF_READY_MAX_MS 100

/* A daemon that was ready for this long has come up: its end is a new beginning. */
#define STEADY_MS 1000

/* How long a daemon may take to stop before it is killed. */
#define STOP_MAX_MS 10000

/* Descriptors for our own use besides the stored ones; a quarter of them all when there are few. */
#define OWN_FDS 64

/* SCM_MAX_FD of the kernel */
#define MESSAGE_FDS_MAX 253

#define MESSAGE_MAX 4096

#define CHILD_ARGS_MAX 9

/* Messages of a dead daemon that are read before the next is started: more than a socket's queue
 * holds. */
#define DRAIN_MAX 4096

typedef struct stored {
  char name[32]; /* "": this number holds nothing */
  int is_socket;
} stored_t;

typedef struct supervisor {
  config_t const *config;
  log_t const *log;
  socket_at_t socket;
  int lock_fd; /* of the state folder */
  int notify_fd, signal_fd, epoll_fd;
  log_rate_t strangers; /* messages that are not the child's */
  int alive[2];         /* the pipe whose reading end the child watches */
  char notify_name[64]; /* "@..." */
  stored_t *stored;     /* indexed by descriptor */
  int stored_cap; /* descriptors below this can be stored: the kernel gives the lowest number */
  unsigned stored_cnt;
  size_t names_len; /* bytes of all names, separators included */
  pid_t child;      /* 0 none */
  int refused;      /* something that came since the last barrier was not stored */
  int ready, ever_ready, stopping;
  uint64_t ready_at_ms;
  int killed;             /* by us, since it did not stop in time */
  int status;             /* exit status of the last child */
  int backoff_ms;         /* the next wait */
  uint64_t restart_at_ms; /* 0: none due */
  uint64_t kill_at_ms;    /* 0: none due */
} supervisor_t;

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int supervise_parse(char const *text, size_t len, supervise_message_t *ret_message) {
  supervise_message_t message = {.fdname = "stored"};
  char const *end = text + len;
  while (text < end) {
    char const *stop = memchr(text, '\n', (size_t)(end - text));
    size_t n = (size_t)((stop ? stop : end) - text);
#define IS(line) (n == sizeof(line) - 1 && !memcmp(text, line, n))
    if (IS("READY=1"))
      message.ready = 1;
    else if (IS("STOPPING=1"))
      message.stopping = 1;
    else if (IS("FDSTORE=1"))
      message.fdstore = 1;
    else if (IS("FDSTOREREMOVE=1"))
      message.fdstore_remove = 1;
    else if (IS("BARRIER=1"))
      message.barrier = 1;
    else if (n >= 7 && !memcmp(text, "FDNAME=", 7)) {
      n -= 7;
      if (!n || n >= sizeof message.fdname) return 0;
      for (size_t i = 0; i < n; i++) {
        char c = text[7 + i];
        if (c <= 0x20 || c == 0x7f || c == ':') return 0;
      }
      memcpy(message.fdname, text + 7, n);
      message.fdname[n] = '\0';
    }
#undef IS
    text = stop ? stop + 1 : end;
  }
  *ret_message = message;
  return 1;
}

/* The store
 * ------------------------------------------------------------------------------------------- */

static void kept_drop(supervisor_t *sup, int fd) {
  /* The daemon has the same description open, so a close alone would leave it in the epoll. ENOENT
   * for memory, which is not watched. */
  epoll_ctl(sup->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  sup->names_len -= strlen(sup->stored[fd].name) + 1;
  sup->stored[fd].name[0] = '\0';
  sup->stored_cnt--;
  close(fd);
}

/* Takes fd over; what it cannot keep fails the next barrier. */
static void kept_add(supervisor_t *sup, int fd, char const *name) {
  size_t len = strlen(name) + 1;
  struct stat st;
  if (fd >= sup->stored_cap || sup->names_len + len > FDNAMES_BYTES_MAX || fstat(fd, &st)) {
    log_error(sup->log, "fdstore", "name=%s stored=%u error=%s", name, sup->stored_cnt,
              log_text("no room for another descriptor: raise the limit of open files").text);
    sup->refused = 1;
    close(fd);
    return;
  }
  if (S_ISSOCK(st.st_mode)) {
    struct epoll_event event = {.events = EPOLLET, .data.fd = fd}; /* hang-up alone, once */
    if (epoll_ctl(sup->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
      log_error(sup->log, "fdstore", "name=%s error=%s", name, log_text(strerror(errno)).text);
      sup->refused = 1;
      close(fd);
      return;
    }
  }
  memcpy(sup->stored[fd].name, name, len);
  sup->stored[fd].is_socket = S_ISSOCK(st.st_mode);
  sup->stored_cnt++;
  sup->names_len += len;
}

static void kept_remove(supervisor_t *sup, char const *name) {
  for (int fd = 0; fd < sup->stored_cap; fd++) {
    if (!strcmp(sup->stored[fd].name, name)) kept_drop(sup, fd);
  }
}

/* Drops a socket that has hung up and from which all has been read: it has been dealt with. Asks
   the socket and not the event, which may be about one that had this number a moment ago. The
   daemon reads first and then makes an event (lifeline.h). */
static void drop_if_over(supervisor_t *sup, int fd) {
  char byte;
  if (fd >= sup->stored_cap || !sup->stored[fd].name[0] || !sup->stored[fd].is_socket) return;
  ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0 || (n < 0 && errno != ECONNRESET)) return;
  kept_drop(sup, fd);
}

static void on_ready(supervisor_t *sup) {
  sup->ready = sup->ever_ready = 1;
  sup->ready_at_ms = now_ms();
}

/* Messages
 * --------------------------------------------------------------------------------------------- */

/* The answer to a barrier is a byte in the pipe that came with it. One that came without, for want
   of a descriptor, is answered by the kernel's closing of it: by no byte, which is no for the
   daemon, and what was refused before it remains to be told. The daemon's end does not block, and
   when nobody reads there is nobody to tell. */
static void answer_barrier(supervisor_t *sup, int const *fds, int fd_cnt) {
  char word = sup->refused ? NOTIFY_NOT_STORED : NOTIFY_STORED;
  for (int i = 0; i < fd_cnt; i++) {
    if (write(fds[i], &word, 1) != 1 && errno != EPIPE) {
      log_error(sup->log, "notify", "error=%s", log_text(strerror(errno)).text);
    }
  }
  if (fd_cnt) sup->refused = 0;
}

static void handle(supervisor_t *sup, char const *text, size_t len, int const *fds, int fd_cnt) {
  supervise_message_t message;
  int used = 0;
  if (!supervise_parse(text, len, &message)) {
    log_warn(sup->log, "notify", "error=%s", log_text("malformed FDNAME").text);
    sup->refused = 1;
  } else {
    if (message.ready && !sup->ready) on_ready(sup);
    if (message.fdstore_remove)
      kept_remove(sup, message.fdname);
    else if (message.fdstore) {
      for (; used < fd_cnt; used++) kept_add(sup, fds[used], message.fdname);
    } else if (message.barrier) {
      answer_barrier(sup, fds, fd_cnt);
    }
  }
  for (; used < fd_cnt; used++) close(fds[used]);
}

/* 1: a message was taken, 0: none waits. */
static int receive(supervisor_t *sup) {
  static char text[MESSAGE_MAX]; /* the parent has one thread */
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_FDS_MAX) + CMSG_SPACE(sizeof(struct ucred))];
  } control;
  struct iovec iov = {.iov_base = text, .iov_len = sizeof text};
  struct msghdr msg = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
  ssize_t n = recvmsg(sup->notify_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return errno == EINTR;
  int fds[MESSAGE_FDS_MAX], fd_cnt = 0;
  pid_t from = 0;
  for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
    if (cmsg->cmsg_level != SOL_SOCKET) continue;
    if (cmsg->cmsg_type == SCM_CREDENTIALS) {
      struct ucred cred;
      memcpy(&cred, CMSG_DATA(cmsg), sizeof cred);
      from = cred.pid;
    } else if (cmsg->cmsg_type == SCM_RIGHTS) {
      size_t cnt = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < cnt && fd_cnt < MESSAGE_FDS_MAX; i++) {
        memcpy(&fds[fd_cnt++], CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
      }
    }
  }
  int ours = sup->child && from == sup->child;
  if (ours && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
    handle(sup, text, (size_t)n, fds, fd_cnt);
  } else {
    if (ours) sup->refused = 1; /* what was lost may have been to be stored */
    uint32_t dropped;
    if (log_rate_ok(&sup->strangers, now_ms() * 1000000, &dropped)) {
      log_warn(sup->log, "notify", "from=%d dropped=%u error=%s", (int)from, dropped,
               log_text("a message that is not the daemon's, or cut short, was ignored").text);
    }
    for (int i = 0; i < fd_cnt; i++) close(fds[i]);
  }
  return 1;
}

/* The child
 * -------------------------------------------------------------------------------------------- */

/* In the child, single-threaded: never returns. fds: what becomes 3, 4, ...; they rise and none is
   below its place, so that each can be put there in turn, over nothing that is still needed and
   without a single descriptor more. */
static void exec_child(supervisor_t const *sup, int const *fds, int fd_cnt, char const *names) {
  char number[32];
  /* TERM and INT stay blocked until the daemon has its handlers: none is lost or kills it early */
  sigset_t unblock;
  sigemptyset(&unblock);
  sigaddset(&unblock, SIGCHLD);
  sigprocmask(SIG_UNBLOCK, &unblock, NULL);
  for (int i = 0; i < fd_cnt; i++) {
    int place = FDNAMES_FIRST + i;
    if (fds[i] == place ? fcntl(place, F_SETFD, 0) : dup2(fds[i], place) < 0) goto fail;
  }
  snprintf(number, sizeof number, "%d", (int)getpid());
  if (setenv("LISTEN_PID", number, 1)) goto fail;
  snprintf(number, sizeof number, "%d", fd_cnt);
  if (setenv("LISTEN_FDS", number, 1) || setenv("LISTEN_FDNAMES", names, 1) ||
      setenv("NOTIFY_SOCKET", sup->notify_name, 1)) {
    goto fail;
  }
  config_t const *config = sup->config;
  char *argv[CHILD_ARGS_MAX + 1] = {(char *)(uintptr_t) "wkspd", (char *)(uintptr_t) "--socket",
                                    (char *)(uintptr_t)config->socket,
                                    (char *)(uintptr_t) "--state-dir",
                                    (char *)(uintptr_t)config->state_dir};
  int argc = 5;
  if (config->file[0] && !config->file_optional) {
    argv[argc++] = (char *)(uintptr_t) "--config";
    argv[argc++] = (char *)(uintptr_t)config->file;
  }
  if (config->log_level_given) {
    argv[argc++] = (char *)(uintptr_t) "--log-level";
    argv[argc] = (char *)(uintptr_t)log_level_name(config->log_level);
  }
  execv("/proc/self/exe", argv);
fail:
  log_error(sup->log, "exec", "error=%s", log_text(strerror(errno)).text);
  _exit(1);
}

/* What a descriptor of ours is called when it is passed on; NULL: it is not. */
static char const *name_of(supervisor_t const *sup, int fd) {
  if (fd == sup->socket.fd) return "socket";
  if (fd == sup->alive[0]) return FDNAMES_SUPERVISOR;
  return fd < sup->stored_cap && sup->stored[fd].name[0] ? sup->stored[fd].name : NULL;
}

/* Starts the daemon, or makes the next attempt due. */
static void start_child(supervisor_t *sup) {
  /* What the last one had finished with at its very end. */
  for (int fd = 0; fd < sup->stored_cap; fd++) drop_if_over(sup, fd);
  int fd_cnt = 0, own_end = sup->socket.fd > sup->alive[0] ? sup->socket.fd : sup->alive[0];
  int *fds = malloc((sup->stored_cnt + 2) * sizeof *fds);
  size_t names_cap = sup->names_len + 64, names_len = 0;
  char *names = malloc(names_cap);
  sup->restart_at_ms = 0;
  sup->ready = sup->refused = 0;
  pid_t pid = -1;
  if (fds && names) {
    for (int fd = 0; fd < sup->stored_cap || fd <= own_end; fd++) {
      char const *name = name_of(sup, fd);
      if (!name) continue;
      names_len += (size_t)snprintf(names + names_len, names_cap - names_len, "%s%s",
                                    fd_cnt ? ":" : "", name);
      fds[fd_cnt++] = fd;
    }
    pid = fork();
    if (!pid) exec_child(sup, fds, fd_cnt, names);
  }
  int err = errno;
  free(fds);
  free(names);
  if (pid < 0) {
    log_error(sup->log, "start", "error=%s", log_text(strerror(err)).text);
    sup->restart_at_ms = now_ms() + BACKOFF_MAX_MS;
    return;
  }
  sup->child = pid;
  log_debug(sup->log, "started", "pid=%d fds=%d", (int)pid, fd_cnt);
}

/* How long to wait before the next daemon. */
static int backoff(supervisor_t *sup, int was_ready) {
  if (was_ready && now_ms() - sup->ready_at_ms >= STEADY_MS) sup->backoff_ms = 0;
  int max = was_ready ? BACKOFF_READY_MAX_MS : BACKOFF_MAX_MS;
  int after_ms = sup->backoff_ms > max ? max : sup->backoff_ms;
  sup->backoff_ms = after_ms ? after_ms * 2 : BACKOFF_MIN_MS;
  return after_ms;
}

static void on_child_end(supervisor_t *sup, int wait_status) {
  pid_t pid = sup->child;
  for (int i = 0; i < DRAIN_MAX && receive(sup); i++) {
  }
  int was_ready = sup->ready;
  sup->child = sup->ready = 0;
  sup->kill_at_ms = 0;
  sup->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 1;
  if (sup->stopping) {
    /* Killed by somebody at the moment we were asked to stop, or failing to start again just then:
     * it has stopped. */
    int failed_again = sup->ever_ready && !was_ready;
    if ((WIFSIGNALED(wait_status) || failed_again) && !sup->killed) sup->status = 0;
    return;
  }
  if (!sup->ever_ready) {
    sup->stopping = 1; /* it has said why */
    return;
  }
  int after_ms = backoff(sup, was_ready);
  if (WIFSIGNALED(wait_status)) {
    log_warn(sup->log, "daemon-ended", "pid=%d signal=%d ready=%d restart_ms=%d stored=%u",
             (int)pid, WTERMSIG(wait_status), was_ready, after_ms, sup->stored_cnt);
  } else {
    log_warn(sup->log, "daemon-ended", "pid=%d exit=%d ready=%d restart_ms=%d stored=%u", (int)pid,
             sup->status, was_ready, after_ms, sup->stored_cnt);
  }
  if (after_ms)
    sup->restart_at_ms = now_ms() + (uint64_t)after_ms;
  else
    start_child(sup);
}

static void on_signals(supervisor_t *sup) {
  struct signalfd_siginfo info;
  while (read(sup->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD) {
      int wait_status;
      pid_t pid;
      while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        if (pid == sup->child) on_child_end(sup, wait_status);
      }
    } else if (info.ssi_signo == SIGHUP) {
      if (sup->child && !sup->stopping)
        kill(sup->child, SIGHUP); /* it has it blocked: none is lost */
    } else if (!sup->stopping) {
      sup->stopping = 1;
      if (sup->stored_cnt)
        log_info(sup->log, "stop-loses", "descriptors=%u note=%s", sup->stored_cnt,
                 log_text("what was kept for the daemon ends with its supervisor").text);
      log_info(sup->log, "signal", "number=%u", info.ssi_signo);
      if (sup->child) {
        kill(sup->child, SIGTERM);
        sup->kill_at_ms = now_ms() + STOP_MAX_MS;
      } else {
        sup->status = 0;
      }
    }
  }
}

/* The loop
 * --------------------------------------------------------------------------------------------- */

static int watch(supervisor_t *sup, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  return epoll_ctl(sup->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* 0, or 1 and errno. */
static int open_notify(supervisor_t *sup) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  socklen_t len = sizeof(sa_family_t); /* the kernel picks an abstract name */
  int one = 1;
  sup->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sup->notify_fd < 0 || bind(sup->notify_fd, (struct sockaddr *)&addr, len) ||
      setsockopt(sup->notify_fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one)) {
    return 1;
  }
  len = sizeof addr;
  if (getsockname(sup->notify_fd, (struct sockaddr *)&addr, &len)) return 1;
  size_t name_len = len - sizeof(sa_family_t);
  if (name_len < 2 || name_len >= sizeof sup->notify_name) return 1;
  memcpy(sup->notify_name, addr.sun_path, name_len);
  sup->notify_name[0] = '@';
  sup->notify_name[name_len] = '\0';
  return 0;
}

static int open_all(supervisor_t *sup) {
  struct rlimit limit;
  sigset_t mask;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return 1;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) && getrlimit(RLIMIT_NOFILE, &limit)) return 1;
  rlim_t cap = limit.rlim_cur;
  cap -= cap / 4 < OWN_FDS ? cap / 4 : OWN_FDS;
  sup->stored_cap = cap > FDNAMES_MAX ? FDNAMES_MAX : (int)cap;
  sup->stored = calloc((size_t)sup->stored_cap, sizeof *sup->stored);
  if (!sup->stored) return 1;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGHUP);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  signal(SIGPIPE, SIG_IGN);
  sup->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  sup->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  return sup->signal_fd < 0 || sup->epoll_fd < 0 || pipe2(sup->alive, O_CLOEXEC) ||
         open_notify(sup) || watch(sup, sup->signal_fd) || watch(sup, sup->notify_fd);
}

static int wait_ms(supervisor_t const *sup) {
  uint64_t due = sup->restart_at_ms;
  if (sup->kill_at_ms && (!due || sup->kill_at_ms < due)) due = sup->kill_at_ms;
  if (!due) return -1;
  uint64_t now = now_ms();
  return due > now ? (int)(due - now) : 0;
}

static void run(supervisor_t *sup) {
  enum { EVENTS = 64 };
  struct epoll_event events[EVENTS];
  start_child(sup);
  while (!sup->stopping || sup->child) {
    int n = epoll_wait(sup->epoll_fd, events, EVENTS, wait_ms(sup));
    int signals = 0;
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == sup->signal_fd)
        signals = 1; /* last: what the child sent comes before its end */
      else if (fd == sup->notify_fd)
        receive(sup);
      else
        drop_if_over(sup, fd);
    }
    if (signals) on_signals(sup);
    uint64_t now = now_ms();
    if (sup->kill_at_ms && now >= sup->kill_at_ms && sup->child) {
      log_error(sup->log, "kill", "pid=%d error=%s", (int)sup->child,
                log_text("the daemon did not stop in time").text);
      kill(sup->child, SIGKILL);
      sup->killed = 1;
      sup->kill_at_ms = 0;
    }
    if (!sup->stopping && sup->restart_at_ms && now >= sup->restart_at_ms) start_child(sup);
  }
}

int supervise_run(config_t const *config, log_t const *log) {
  char error[CONFIG_ERROR_MAX];
  supervisor_t sup = {.config = config,
                      .log = log,
                      .socket = SOCKET_NONE,
                      .lock_fd = -1,
                      .notify_fd = -1,
                      .signal_fd = -1,
                      .epoll_fd = -1,
                      .alive = {-1, -1}};
  /* Descriptors below the first that is passed on are not ours to use. */
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd < FDNAMES_FIRST);
  if (fd >= 0) close(fd);
  if (store_supervise(config->state_dir, &sup.lock_fd, error) ||
      socket_listen(&sup.socket, config->socket, error)) {
    log_error(log, "start", "error=%s", log_text(error).text);
    if (sup.lock_fd >= 0) close(sup.lock_fd);
    return 1;
  }
  if (open_all(&sup)) {
    log_error(log, "start", "error=%s", log_text(strerror(errno)).text);
    sup.status = 1;
  } else {
    run(&sup);
  }
  socket_release(&sup.socket);
  close(sup.lock_fd);
  free(sup.stored);
  return sup.status;
}
