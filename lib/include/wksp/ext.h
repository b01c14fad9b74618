/* ext: objects of a type from any allocator: new, arrays, resize, copies of strings.

   Thin, and all inline. The allocator is an fd_valloc_t: fd_alloc_virtual, wksp_heap_virtual, or a
   table of your own. NULL means failure everywhere; a count that has no room in a ulong is one.

     fd_valloc_t valloc = wksp_heap_virtual(heap);
     point_t *one = wksp_ext_new(valloc, point_t);
     point_t *all = wksp_ext_array_zero(valloc, point_t, cnt);
     all = wksp_ext_resize(valloc, all, point_t, cnt, 2 * cnt);
     wksp_ext_free(valloc, all);

   Locked or not: fd_allocs and heaps may be used by all threads at once. What may not, such as a
   bump allocator, is for one thread; or wksp_ext_locked makes of it one for all, by a mutex. */

#ifndef WKSP_EXT_H
#define WKSP_EXT_H

#include "types.h"
#include "valloc.h"

#include <pthread.h>
#include <string.h>

WKSP_PROTOTYPES_BEGIN

/* An object of the type, aligned to it; as it comes, or all 0. */
#define wksp_ext_new(valloc, T)      ((T *)fd_valloc_malloc((valloc), __alignof__(T), sizeof(T)))
#define wksp_ext_new_zero(valloc, T) ((T *)fd_valloc_calloc((valloc), __alignof__(T), 1, sizeof(T)))

/* cnt of them. NULL for none, too. */
#define wksp_ext_array(valloc, T, cnt) \
  ((T *)wksp_ext_bytes((valloc), __alignof__(T), (cnt), sizeof(T)))
#define wksp_ext_array_zero(valloc, T, cnt) \
  ((T *)fd_valloc_calloc((valloc), __alignof__(T), (cnt), sizeof(T)))

/* The array at ptr, of old_cnt, with cnt of them: the first of both are as they were, further ones
   as they come. NULL for none, which frees it, and on failure, and then it is as it was. */
#define wksp_ext_resize(valloc, ptr, T, old_cnt, cnt) \
  ((T *)wksp_ext_resize_bytes((valloc), (ptr), __alignof__(T), (old_cnt), (cnt), sizeof(T)))

static inline void *wksp_ext_bytes(fd_valloc_t valloc, ulong align, ulong cnt, ulong sz) {
  ulong all = cnt * sz;
  return sz && all / sz != cnt ? NULL : fd_valloc_malloc(valloc, align, all);
}

static inline void *wksp_ext_resize_bytes(fd_valloc_t valloc, void *ptr, ulong align, ulong old_cnt,
                                          ulong cnt, ulong sz) {
  ulong all = cnt * sz;
  return sz && all / sz != cnt ? NULL : fd_valloc_realloc(valloc, ptr, align, old_cnt * sz, all);
}

static inline void wksp_ext_free(fd_valloc_t valloc, void *ptr) {
  fd_valloc_free(valloc, ptr);
}

/* A copy of sz bytes; of a string; of a string's first max characters, ended with a NUL. */
static inline void *wksp_ext_memdup(fd_valloc_t valloc, void const *from, ulong sz) {
  void *to = fd_valloc_malloc(valloc, 0, sz);
  return to ? memcpy(to, from, sz) : NULL;
}

static inline char *wksp_ext_strndup(fd_valloc_t valloc, char const *from, ulong max) {
  ulong len = 0; /* strnlen, which C11 does not have */
  while (len < max && from[len]) len++;
  char *to = (char *)fd_valloc_malloc(valloc, 1, len + 1);
  if (!to) return NULL;
  memcpy(to, from, len);
  to[len] = '\0';
  return to;
}

static inline char *wksp_ext_strdup(fd_valloc_t valloc, char const *from) {
  return wksp_ext_strndup(valloc, from, ~0UL);
}

/* An allocator behind a mutex. It must stay where it is while it is used. */
typedef struct wksp_ext_locked {
  fd_valloc_t of;
  pthread_mutex_t mutex;
} wksp_ext_locked_t;

/* 0 or an errno. */
static inline int wksp_ext_locked_init(wksp_ext_locked_t *locked, fd_valloc_t of) {
  locked->of = of;
  return pthread_mutex_init(&locked->mutex, NULL);
}

/* What was allocated stays with the allocator behind it. */
static inline void wksp_ext_locked_destroy(wksp_ext_locked_t *locked) {
  pthread_mutex_destroy(&locked->mutex);
}

static inline void *wksp_ext_locked_malloc(void *self, ulong align, ulong sz) {
  wksp_ext_locked_t *locked = (wksp_ext_locked_t *)self;
  pthread_mutex_lock(&locked->mutex);
  void *ptr = fd_valloc_malloc(locked->of, align, sz);
  pthread_mutex_unlock(&locked->mutex);
  return ptr;
}

static inline void wksp_ext_locked_free(void *self, void *ptr) {
  wksp_ext_locked_t *locked = (wksp_ext_locked_t *)self;
  pthread_mutex_lock(&locked->mutex);
  fd_valloc_free(locked->of, ptr);
  pthread_mutex_unlock(&locked->mutex);
}

static inline fd_valloc_t wksp_ext_locked(wksp_ext_locked_t *locked) {
  static fd_valloc_vtable_t const table = {wksp_ext_locked_malloc, wksp_ext_locked_free};
  fd_valloc_t valloc = {(void *)locked, &table};
  return valloc;
}

WKSP_PROTOTYPES_END

#endif
