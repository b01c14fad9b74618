/* cmd_top: top - what the daemon and its workspaces are at, live on a terminal.

   The model: every --interval the daemon is asked for its status and the list of workspaces, and
   looked into are only those that are on the screen, so ten thousand of them cost no more than a
   screenful. A page shows one workspace. What is shown is a list of lines, made anew each time; a
   key or a new size of the terminal draws it again.

   The age of the last verified checkpoint is that of the newest which this daemon has verified.

   A daemon that is away is said, and the screen goes on as soon as it is back. Nothing is coloured.
   It refuses: to run where there is no terminal (metrics and usage are for that). */

#include "parse.h"
#include "top.h"

#include <curses.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_MS 2000L
#define DEADLINE_MS 2000L /* of a call; keys wait so long at the most for a daemon that is slow */
#define ROWS_MIN    8
#define COLS_MIN    40
#define HEAD_LINES  4 /* above the list */

static char const *const order_words[ORDER_CNT] = {"name", "size", "clients"};

/* The list
 * ------------------------------------------------------------------------------------------------
 */

static int by_order(void const *a, void const *b, void *order) {
  order_t const sort_order = *(order_t const *)order;
  wksp_info_t const *x = &((sample_wksp_t const *)a)->info, *y = &((sample_wksp_t const *)b)->info;
  ulong const p = sort_order == BY_SIZE ? x->size : x->attached_rw + x->attached_ro;
  ulong const q = sort_order == BY_SIZE ? y->size : y->attached_rw + y->attached_ro;
  if (sort_order != BY_NAME && p != q) return p > q ? -1 : 1;
  return strcmp(x->name, y->name);
}

/* Where the selected one is in the list; if it is gone, what stands at its place by name. */
static ulong selected_at(top_t const *top) {
  for (ulong i = 0; i < top->sample.cnt; i++)
    if (!strcmp(top->sample.wksps[i].info.name, top->selected)) return i;
  return 0;
}

static ulong list_rows(void) {
  return LINES > HEAD_LINES + 1 ? (ulong)LINES - HEAD_LINES - 1 : 0;
}

/* Asks anew. What was known stays, if the daemon is not to be asked. */
static void refresh_sample(top_t *top) {
  sample_t next;
  int const err = sample_take(top->cli->client, 0, &next);
  if (err) {
    char *safe = render_safe(wksp_last_error());
    snprintf(top->away, sizeof top->away, "%s", safe ? safe : wksp_strerror(err));
    free(safe);
    return;
  }
  *top->away = '\0';
  if (top->have && next.time_ns > top->sample.time_ns &&
      next.status.request_cnt >= top->sample.status.request_cnt)
    top->per_second = (double)(next.status.request_cnt - top->sample.status.request_cnt) * 1e9 /
                      (double)(next.time_ns - top->sample.time_ns);
  if (top->have) sample_free(&top->sample);
  top->sample = next;
  top->have = 1;
  if (next.cnt) qsort_r(next.wksps, next.cnt, sizeof *next.wksps, by_order, &top->order);
}

/* Keeps the selected line on the screen. */
static void scroll_list(top_t *top) {
  ulong const rows = list_rows(), at = selected_at(top);
  if (top->first > at) top->first = at;
  if (rows && at >= top->first + rows) top->first = at - rows + 1;
  if (top->first + rows > top->sample.cnt)
    top->first = top->sample.cnt > rows ? top->sample.cnt - rows : 0;
  if (top->sample.cnt)
    snprintf(top->selected, sizeof top->selected, "%s", top->sample.wksps[at].info.name);
}

static void look_at_shown(top_t *top) {
  for (ulong i = top->first; i < top->sample.cnt && i < top->first + list_rows(); i++) {
    sample_wksp_t *wksp = &top->sample.wksps[i];
    sample_ckpt_t ckpt;
    if (sample_look(top->cli->client, wksp)) return;
    if (sample_checkpoints(top->cli->client, wksp->info.name, &ckpt)) continue;
    wksp->verified_ns = ckpt.verified_ns;
    free(ckpt.good);
  }
}

/* Drawing
 * -------------------------------------------------------------------------------------------------
 */

/* A line, cut at the screen's edge. */
static void put(int row, int attribute, char const *text) {
  if (row < 0 || row >= LINES) return;
  (void)attrset((attr_t)attribute);
  (void)mvaddnstr(row, 0, text, COLS);
  if (attribute & (int)A_REVERSE)
    for (int col = getcurx(stdscr); getcury(stdscr) == row && col < COLS; col++) addch(' ');
  (void)attrset(A_NORMAL);
}

static void draw_head(top_t const *top) {
  char line[LINE_CAP];
  if (top->have) {
    wksp_status_t const *s = &top->sample.status;
    snprintf(line, sizeof line, "wkspd %s, pid %d, up %s: %u workspaces, %s; %u leases",
             top->sample.version.daemon, s->pid,
             render_span(s->uptime_ns / 1000000000UL * 1000000000UL).s, s->workspace_cnt,
             render_size(s->bytes).s, s->lease_cnt);
    put(0, A_BOLD, line);
    snprintf(line, sizeof line,
             "%s; %u connections, %u jobs; %.1f requests/s, %lu refused, %lu violations",
             s->fd_store ? "kept over restarts" : "LOST AT A RESTART", s->connection_cnt,
             s->job_cnt, top->per_second, s->refused_cnt, s->violation_cnt);
    put(1, A_NORMAL, line);
  }
  if (*top->away) put(2, A_BOLD, top->away);
}

static void draw_list(top_t const *top) {
  char line[LINE_CAP];
  int const fixed = 65, wide = COLS - fixed > 8 ? COLS - fixed : 8;
  int const name_max = wide < (int)FD_WKSP_NAME_MAX ? wide : (int)FD_WKSP_NAME_MAX;
  snprintf(line, sizeof line, "%-*s %9s %9s %4s %9s %5s %4s %4s %8s %s", name_max, "NAME", "SIZE",
           "USED", "%", "LARGEST", "FRAG", "RW", "RO", "VERIFIED", "");
  put(HEAD_LINES - 1, A_REVERSE, line);
  for (ulong row = 0; row < list_rows() && top->first + row < top->sample.cnt; row++) {
    sample_wksp_t const *wksp = &top->sample.wksps[top->first + row];
    wksp_info_t const *info = &wksp->info;
    fd_wksp_usage_t const *usage = &wksp->usage;
    char const *state = info->quarantined       ? "Q"
                        : info->read_only       ? "R"
                        : wksp->holder.since_ns ? "L"
                                                : "";
    int at = snprintf(line, sizeof line, "%-*.*s%c%9s ", name_max, name_max, info->name,
                      strlen(info->name) > (size_t)name_max ? '>' : ' ', render_size(info->size).s);
    if (wksp->err)
      snprintf(line + at, sizeof line - (size_t)at, "%9s %4s %9s %5s", "-", "-", "-", "-");
    else
      snprintf(line + at, sizeof line - (size_t)at, "%9s %3.0f%% %9s %4.0f%%",
               render_size(usage->used_sz).s,
               usage->total_sz ? 100 * (double)usage->used_sz / (double)usage->total_sz : 0,
               render_size(usage->free_sz_max).s, 100 * sample_fragmentation(usage));
    at = (int)strlen(line);
    snprintf(line + at, sizeof line - (size_t)at, " %4u %4u %8s %s", info->attached_rw,
             info->attached_ro, top_age(top, wksp->verified_ns).s, state);
    put(HEAD_LINES + (int)row, strcmp(info->name, top->selected) ? A_NORMAL : (int)A_REVERSE, line);
  }
  if (top->have && !top->sample.cnt)
    put(HEAD_LINES, A_NORMAL, "no workspaces; make one with wkspctl create NAME --size 64M");
  snprintf(
      line, sizeof line,
      "q quit  arrows select  Enter look into  s sort: %s  Q quarantined R read-only L lock wait",
      order_words[top->order]);
  put(LINES - 1, A_REVERSE, line);
}

static void draw_page(top_t *top) {
  ulong const rows = LINES > HEAD_LINES ? (ulong)LINES - HEAD_LINES : 0;
  ulong const most = top->line_cnt > rows ? top->line_cnt - rows : 0;
  if (top->first > most) top->first = most;
  for (ulong row = 0; row < rows && top->first + row < top->line_cnt; row++)
    put(HEAD_LINES - 1 + (int)row, A_NORMAL, top->lines[top->first + row]);
  char line[LINE_CAP];
  snprintf(line, sizeof line, "q back  arrows scroll  lines %lu to %lu of %lu", top->first + 1,
           top->first + rows < top->line_cnt ? top->first + rows : top->line_cnt, top->line_cnt);
  put(LINES - 1, A_REVERSE, line);
}

static void draw(top_t *top) {
  erase();
  if (LINES < ROWS_MIN || COLS < COLS_MIN) {
    put(0, A_NORMAL, "too small");
  } else {
    draw_head(top);
    if (top->paging)
      draw_page(top);
    else
      draw_list(top);
  }
  refresh();
}

/* Keys
 * ----------------------------------------------------------------------------------------------------
 */

static void move_selected(top_t *top, long by) {
  if (top->paging) {
    top->first = by < 0 && (ulong)-by > top->first ? 0 : top->first + (ulong)by;
    return;
  }
  long const cnt = (long)top->sample.cnt;
  long at = (long)selected_at(top) + by;
  if (!cnt) return;
  at = at < 0 ? 0 : at >= cnt ? cnt - 1 : at;
  snprintf(top->selected, sizeof top->selected, "%s", top->sample.wksps[at].info.name);
}

/* 1: the end. *ret_ask: what is shown has to be asked for. */
static int key(top_t *top, int pressed, int *ret_ask) {
  long const screen = LINES > HEAD_LINES + 1 ? LINES - HEAD_LINES - 1 : 1;
  switch (pressed) {
  case 'q':
  case 27: /* escape */
    if (!top->paging) return 1;
    top->paging = 0;
    top->first = 0;
    *ret_ask = 1;
    return 0;
  case KEY_UP:
  case 'k':
    move_selected(top, -1);
    return 0;
  case KEY_DOWN:
  case 'j':
    move_selected(top, 1);
    return 0;
  case KEY_PPAGE:
    move_selected(top, -screen);
    return 0;
  case KEY_NPAGE:
  case ' ':
    move_selected(top, screen);
    return 0;
  case '\n':
  case '\r':
  case KEY_ENTER:
    if (top->paging || !top->sample.cnt) return 0;
    top->paging = 1;
    top->first = 0;
    *ret_ask = 1;
    return 0;
  case 's':
    if (!top->paging) top->order = (order_t)((top->order + 1) % ORDER_CNT);
    *ret_ask = 1;
    return 0;
  case KEY_RESIZE:
    *ret_ask = !top->paging; /* other workspaces may have come onto the screen */
    return 0;
  default:
    return 0;
  }
}

static void ask(top_t *top) {
  refresh_sample(top);
  if (*top->away) return;
  if (top->paging) {
    top_page(top);
    return;
  }
  scroll_list(top);
  look_at_shown(top);
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void show(top_t *top, long interval_ms) {
  for (long due = 0;;) {
    long const left = due - now_ms();
    int again = left <= 0;
    if (!again) {
      timeout((int)left);
      int const pressed = getch();
      if (pressed != ERR && key(top, pressed, &again)) return;
      ulong const before = top->first;
      if (pressed != ERR && !top->paging) scroll_list(top);
      again |= pressed == ERR || before != top->first;
      /* ERR comes when the time is over, and when the terminal is gone. */
      struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
      if (pressed == ERR && poll(&terminal, 1, 0) > 0 &&
          terminal.revents & (POLLHUP | POLLERR | POLLNVAL))
        return;
    }
    if (again) {
      ask(top);
      due = now_ms() + interval_ms;
    }
    draw(top);
  }
}

int cmd_top(cli_t *cli, cli_args_t const *args) {
  char const *text = cli_arg(args, "interval");
  long interval_ms = INTERVAL_MS;
  char const *why = text ? parse_duration(text, &interval_ms) : NULL;
  if (why) return cli_fail_usage(cli, "--interval '%s' %s", text, why);
  if (cli->json)
    return cli_fail_usage(cli, "top has no JSON; wkspctl metrics --json has its figures");
  if (!cli->timeout_ms) cli->timeout_ms = DEADLINE_MS;
  int const status = cli_connect(cli);
  if (status) return status;
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
    return cli_fail(cli, "terminal",
                    "top wants a terminal; wkspctl metrics prints the same figures once");
  top_t top = {.cli = cli, .lines = calloc(LINES_CAP, LINE_CAP)};
  if (!top.lines) return cli_fail_memory(cli);
  SCREEN *screen = newterm(NULL, stdout, stdin);
  if (!screen) {
    free(top.lines);
    char const *term = getenv("TERM");
    return cli_fail(cli, "terminal", "a terminal of type '%s' is not known; set TERM",
                    term ? term : "");
  }
  (void)cbreak();
  (void)noecho();
  (void)nonl();
  (void)keypad(stdscr, TRUE);
  (void)set_escdelay(25);
  (void)curs_set(0);
  show(&top, interval_ms);
  (void)endwin();
  delscreen(screen);
  if (top.have) sample_free(&top.sample);
  free(top.lines);
  return CLI_OK;
}
