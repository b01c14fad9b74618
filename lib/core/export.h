/* export: symbols of libwksp that its sister libwksp-ckpt uses, and nobody else.

   They are exported under a version of their own, WKSP_PRIVATE_1 in libwksp.map, and promise
   nothing: both libraries are of one build, and the packages depend on each other with the same
   version. */

#ifndef WKSP_CORE_EXPORT_H
#define WKSP_CORE_EXPORT_H

#define WKSP_PRIVATE __attribute__((visibility("default")))

#endif
