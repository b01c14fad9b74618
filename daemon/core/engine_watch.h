/* engine_watch: what Watch tells (proto/wkspd.proto); engine.h has the rest. */

#ifndef WKSPD_CORE_ENGINE_WATCH_H
#define WKSPD_CORE_ENGINE_WATCH_H

#include <stdint.h>

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
  ENGINE_EVENT_SOUND = 13    /* it was damaged, and a verify has found nothing any more */
};

#endif
