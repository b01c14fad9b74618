/* The short integer names of this family of interfaces, and the handles that several headers share.

   ulong is 64 bits wide on every platform wksp runs on (Linux, LP64); a static assertion in the
   library holds that.  A gaddr is a byte offset from the start of a workspace, the same in every
   process and after every restore; 0 is null. */

#ifndef WKSP_TYPES_H
#define WKSP_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define WKSP_PROTOTYPES_BEGIN extern "C" {
#define WKSP_PROTOTYPES_END   }
#else
#define WKSP_PROTOTYPES_BEGIN
#define WKSP_PROTOTYPES_END
#endif

/* Public symbols; everything else in the shared library is hidden. */
#define WKSP_API __attribute__((visibility("default")))

typedef unsigned char uchar;
typedef unsigned int uint;
typedef unsigned long ulong;

/* A joined workspace: the address at which this process has mapped it. Opaque. */
typedef struct fd_wksp fd_wksp_t;

/* A joined fd_alloc: a value (address of the allocator's state, cgroup hint in the low bits). It
   can be shared by any number of threads of the process that joined. Opaque. */
typedef struct fd_alloc fd_alloc_t;

/* A connection to wkspd. Opaque. */
typedef struct wksp_client wksp_client_t;

#endif
