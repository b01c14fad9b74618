/* engine_watch: what Watch tells (proto/wkspd.proto); engine.h has the rest. */

#ifndef WKSPD_CORE_ENGINE_WATCH_H
#define WKSPD_CORE_ENGINE_WATCH_H

#include <stdint.h>

#include "daemon/core/spec.h"

/* Values of proto/wkspd.proto's EventKind. */
enum {
  ENGINE_EVENT_CREATED = 1,
  ENGINE_EVENT_REMOVED = 2, /* the name is gone; with force the memory may stay for a while */
  ENGINE_EVENT_ATTACHED = 3,
  ENGINE_EVENT_DETACHED = 4,
  ENGINE_EVENT_QUARANTINED = 5,
  ENGINE_EVENT_RESIZED = 6,
  ENGINE_EVENT_CHECKPOINTED = 7,
  ENGINE_EVENT_CHECKPOINT_FAILED = 8,
  ENGINE_EVENT_RESTORED = 9, /* after its CREATED */
  ENGINE_EVENT_RESTORE_FAILED = 10,
  ENGINE_EVENT_SCHEDULED = 11,
  ENGINE_EVENT_DAMAGED = 12, /* a worker met damage in it (mark.c) */
  ENGINE_EVENT_SOUND = 13,   /* it was damaged, and a verify has found nothing any more */
  ENGINE_EVENT_PRESSURE = 14 /* of no workspace: something is nearly used up, or no more so */
};

enum { ENGINE_PRESSURE_OF_ALL = 0, ENGINE_PRESSURE_OF_UID, ENGINE_PRESSURE_OF_TAG };

/* A bound, and what is in use of it. */
typedef struct engine_pressure {
  char const *what; /* a constant: "connections", "quota of bytes", "pages", ... */
  int high;         /* it is nearly used up; 0: it was, and is no more */
  int of;           /* ENGINE_PRESSURE_OF_*; what is not of concern of what follows is 0, "", -1 */
  uint32_t uid;
  char tag[SPEC_TAG_MAX + 1];
  uint64_t page_size;
  int32_t node;
  uint64_t used, limit; /* bytes, pages, or numbers of what it is */
} engine_pressure_t;

#endif
