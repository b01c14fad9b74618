/* cmd_watch: watch - events as they happen, one line each. */

#include "cli.h"
#include "parse.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char const *event_word(uint kind) {
  switch (kind) {
  case WKSP_EVENT_CREATED:
    return "created";
  case WKSP_EVENT_REMOVED:
    return "removed";
  case WKSP_EVENT_ATTACHED:
    return "attached";
  case WKSP_EVENT_DETACHED:
    return "detached";
  case WKSP_EVENT_QUARANTINED:
    return "quarantined";
  case WKSP_EVENT_RESIZED:
    return "resized";
  case WKSP_EVENT_CHECKPOINTED:
    return "checkpointed";
  case WKSP_EVENT_CHECKPOINT_FAILED:
    return "checkpoint-failed";
  case WKSP_EVENT_RESTORED:
    return "restored";
  case WKSP_EVENT_RESTORE_FAILED:
    return "restore-failed";
  case WKSP_EVENT_SCHEDULED:
    return "scheduled";
  case WKSP_EVENT_DAMAGED:
    return "damaged";
  case WKSP_EVENT_SOUND:
    return "sound";
  case WKSP_EVENT_PRESSURE:
    return "pressure";
  default:
    return "unknown";
  }
}

typedef struct watching {
  cli_t *cli;
  char const *name;   /* NULL: all */
  ulong seen, wanted; /* wanted 0: no end */
  int status;
} watching_t;

/* Non-zero ends the watch: enough was seen, or what was seen could not be printed. */
enum { WATCH_ON = 0, WATCH_ENOUGH = 1 };

static json_t *pressure_json(wksp_pressure_t const *of) {
  return json_pack("{s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "what", render_json_text(of->what),
                   "high", (int)of->high, "used", render_json_figure(of->used), "limit",
                   render_json_figure(of->limit), "uid",
                   of->of == WKSP_PRESSURE_OF_UID ? json_integer(of->uid) : json_null(), "tag",
                   of->tag[0] ? render_json_text(of->tag) : json_null(), "page_size",
                   of->page_size ? render_json_figure(of->page_size) : json_null(), "node",
                   of->node < 0 ? json_null() : json_integer(of->node));
}

/* Bytes where it says so, else numbers. */
static render_text_t pressure_figure(wksp_pressure_t const *of, ulong figure) {
  return strstr(of->what, "bytes") ? render_size(figure) : render_number(figure);
}

static void pressure_print(wksp_pressure_t const *of) {
  char *what = render_safe(of->what);
  printf("%s: %s", of->high ? "high" : "low", what ? what : "?");
  free(what);
  if (of->of == WKSP_PRESSURE_OF_UID) printf(" of %s", render_user(of->uid).s);
  char *tag = of->tag[0] ? render_safe(of->tag) : NULL;
  if (tag) printf(" of tag %s", tag);
  free(tag);
  if (of->page_size) printf(", pages of %s", render_size(of->page_size).s);
  if (of->node >= 0) printf(" on node %d", of->node);
  printf(": %s of %s", pressure_figure(of, of->used).s, pressure_figure(of, of->limit).s);
}

static int event_json(cli_t *cli, wksp_event_t const *event) {
  json_t *line =
      json_pack("{s:s, s:o, s:s, s:o}", "event", event_word(event->kind), "name",
                event->pressure ? json_null() : render_json_text(event->name), "time",
                render_time(event->time_ns).s, "time_ns", render_json_figure(event->time_ns));
  if (event->pressure && json_object_set_new(line, "pressure", pressure_json(event->pressure))) {
    json_decref(line);
    line = NULL;
  }
  return render_json_line(cli, line);
}

static int watch_one(void *arg, wksp_event_t const *event) {
  watching_t *watching = arg;
  if (watching->name && !event->pressure && strcmp(watching->name, event->name)) return WATCH_ON;
  cli_t *cli = watching->cli;
  if (cli->json) {
    watching->status = event_json(cli, event);
  } else {
    printf("%s %s ", render_time(event->time_ns).s, event_word(event->kind));
    if (event->pressure)
      pressure_print(event->pressure);
    else
      printf("%s", event->name);
    putchar('\n');
    watching->status = cli_flush(cli, CLI_OK);
  }
  watching->seen++;
  return watching->status || watching->seen == watching->wanted ? WATCH_ENOUGH : WATCH_ON;
}

/* A watch has no deadline of its own to be surprised by: without --timeout the longest there is. */
#define WATCH_MS_MAX 3600000L

int cmd_watch(cli_t *cli, cli_args_t const *args) {
  watching_t watching = {.cli = cli, .name = args->operands[0]};
  char const *count = cli_arg(args, "count");
  char const *why = count ? parse_number(count, &watching.wanted) : NULL;
  if (!why && count && !watching.wanted) why = "would watch for nothing; ask for 1 or more";
  if (why) return cli_fail_usage(cli, "--count '%s' %s", count, why);
  if (!cli->timeout_ms) cli->timeout_ms = WATCH_MS_MAX;

  int const status = cli_connect(cli);
  if (status) return status;
  int const err = cli_arg(args, "pressure")
                      ? wksp_client_watch_pressure(cli->client, watch_one, &watching)
                      : wksp_client_watch(cli->client, watch_one, &watching);
  if (watching.status) return watching.status;
  if (err == WATCH_ENOUGH || (err == WKSP_E_TIMEDOUT && !count)) return CLI_OK;
  if (err == WKSP_E_TIMEDOUT)
    return cli_fail(cli, "WKSP_E_TIMEDOUT",
                    "saw %lu of %lu events before the time was over; --timeout sets how long to "
                    "watch",
                    watching.seen, watching.wanted);
  return cli_fail_wksp(cli, err);
}
