/* serve: metrics over HTTP, for monitoring systems that come and ask.

   Why not in the daemon: it would have to read what strangers send by one protocol more. This is a
   client like any other; it may be stopped and started, and has the rights of the user who runs it.
   libmicrohttpd reads the requests, in one thread, which alone uses the connection to the daemon.

   It refuses: to listen where other machines could ask. Whoever wants that puts a proxy before it
   that knows who may. */

#include "metrics.h"

#include <stdlib.h>
#include <string.h>

#ifdef CLI_HTTP

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16 /* at a time; a monitoring system needs one */
#define IDLE_S          10
#define DEADLINE_MS     5000L

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, char *text,
                              char const *type) {
  struct MHD_Response *response =
      text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
  if (!response) {
    free(text);
    return MHD_NO;
  }
  (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  enum MHD_Result const queued = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return queued;
}

static enum MHD_Result answer_metrics(cli_t *cli, struct MHD_Connection *connection) {
  static char const *const types[] = {
      [FORMAT_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
      [FORMAT_PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8"};
  char const *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept");
  int const format = accept && strstr(accept, "application/openmetrics-text") ? FORMAT_OPENMETRICS
                                                                              : FORMAT_PROMETHEUS;
  char *text = NULL;
  size_t len;
  sample_t s;
  if (sample_take(cli->client, 1, &s)) {
    text = strdup(wksp_last_error());
    return answer(connection, MHD_HTTP_SERVICE_UNAVAILABLE, text, "text/plain; charset=utf-8");
  }
  FILE *out = open_memstream(&text, &len);
  if (out) metrics_write(&s, format, out);
  sample_free(&s);
  if (!out || fclose(out)) {
    free(text);
    return MHD_NO;
  }
  return answer(connection, MHD_HTTP_OK, text, types[format]);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, char const *url,
                                  char const *method, char const *version, char const *upload,
                                  size_t *upload_len, void **state) {
  static char begun;
  (void)version, (void)upload;
  /* First the head, then what is uploaded, which is not looked at, then the end. */
  if (!*state) {
    *state = &begun;
    return MHD_YES;
  }
  if (*upload_len) {
    *upload_len = 0;
    return MHD_YES;
  }
  if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
    return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, strdup("only GET and HEAD\n"),
                  "text/plain");
  if (strcmp(url, "/metrics"))
    return answer(connection, MHD_HTTP_NOT_FOUND, strdup("there is /metrics\n"), "text/plain");
  return answer_metrics(arg, connection);
}

typedef union address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
} address_t;

/* "127.0.0.1:9477", "[::1]:9477" or "/run/x/sock". 0 and *ret_len, or -1. */
static int parse_where(char const *where, address_t *ret_address, socklen_t *ret_len) {
  address_t address = {.any = {0}};
  char host[INET6_ADDRSTRLEN];
  unsigned port;
  char rest;
  if (*where == '/' && strlen(where) < sizeof address.un.sun_path) {
    address.un.sun_family = AF_UNIX;
    strcpy(address.un.sun_path, where);
    *ret_len = sizeof address.un;
  } else if (sscanf(where, "%15[0-9.]:%5u%c", host, &port, &rest) == 2 && port && port <= 65535 &&
             inet_pton(AF_INET, host, &address.in.sin_addr) == 1 &&
             ntohl(address.in.sin_addr.s_addr) >> 24 == 127) {
    address.in.sin_family = AF_INET;
    address.in.sin_port = htons((uint16_t)port);
    *ret_len = sizeof address.in;
  } else if (sscanf(where, "[::1]:%5u%c", &port, &rest) == 1 && port && port <= 65535) {
    address.in6.sin6_family = AF_INET6;
    address.in6.sin6_addr = in6addr_loopback;
    address.in6.sin6_port = htons((uint16_t)port);
    *ret_len = sizeof address.in6;
  } else {
    return -1;
  }
  *ret_address = address;
  return 0;
}

/* A socket that listens there; a unix socket that nobody listens at any more is replaced. -1: errno
 * says why. */
static int listen_at(address_t const *address, socklen_t len) {
  int const on = 1, family = address->any.sa_family;
  int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  struct stat st;
  char const *path = address->un.sun_path;
  if (family == AF_UNIX && !lstat(path, &st) && S_ISSOCK(st.st_mode) &&
      connect(fd, &address->any, len) && errno == ECONNREFUSED)
    (void)unlink(path);
  if (family != AF_UNIX) (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, &address->any, len) || listen(fd, CONNECTIONS_MAX)) {
    int const why = errno;
    close(fd);
    errno = why;
    return -1;
  }
  return fd;
}

int serve_metrics(cli_t *cli, char const *where) {
  address_t address;
  socklen_t len;
  if (parse_where(where, &address, &len))
    return cli_fail_usage(
        cli, "--listen '%s' is neither 127.0.0.1:PORT, [::1]:PORT nor the path of a socket", where);
  if (!cli->timeout_ms) cli->timeout_ms = DEADLINE_MS;
  int const status = cli_connect(cli);
  if (status) return status;
  sigset_t ends;
  (void)sigemptyset(&ends);
  (void)sigaddset(&ends, SIGINT);
  (void)sigaddset(&ends, SIGTERM);
  (void)sigprocmask(SIG_BLOCK, &ends, NULL); /* in the server's thread, too */
  int const fd = listen_at(&address, len);
  if (fd < 0) return cli_fail(cli, "WKSP_E_SYS", "cannot listen at %s: %s", where, strerror(errno));
  struct MHD_Daemon *server = MHD_start_daemon(
      MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, on_request, cli,
      MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
      MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_END);
  int served = CLI_OK, ended;
  if (server) {
    printf("serving metrics at %s\n", where);
    served = cli_flush(cli, CLI_OK);
    if (!served) (void)sigwait(&ends, &ended);
    MHD_stop_daemon(server); /* closes fd */
  } else {
    close(fd);
    served = cli_fail(cli, "WKSP_E_SYS", "the HTTP server cannot be started at %s", where);
  }
  if (address.any.sa_family == AF_UNIX) (void)unlink(address.un.sun_path);
  return served;
}

#else

int serve_metrics(cli_t *cli, char const *where) {
  return cli_fail(cli, "WKSP_E_UNSUPPORTED",
                  "wkspctl was built without libmicrohttpd and cannot serve metrics at %s; a timer "
                  "can write them to a file instead",
                  where);
}

#endif
