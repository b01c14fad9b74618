/* pages_conf: hugepages.conf, which says how many huge pages each node is to keep from the boot on.

     [node 0]
     2M = 512
     1G = 2 */

#ifndef WKSPCTL_PAGES_CONF_H
#define WKSPCTL_PAGES_CONF_H

#include "host.h"
#include "reserve.h"

#define PAGES_CONF_DEFAULT "/etc/wkspd/hugepages.conf"

/* Every node and size once. */
#define PAGES_CONF_MAX (HOST_NODES_MAX * HOST_SIZES_MAX)

#define PAGES_CONF_ERROR_MAX 1024

typedef struct pages_conf {
  reserve_t *pool; /* larger pages first: they need more memory in one piece */
  uint cnt;
} pages_conf_t;

/* Reads the file for this machine. 0 and *ret_conf, to be freed by pages_conf_free; or -1 and a
   sentence that begins with the file, and the line if one is wrong. */
int pages_conf_read(char const *path, host_t const *host, pages_conf_t *ret_conf,
                    char ret_error[PAGES_CONF_ERROR_MAX]);
void pages_conf_free(pages_conf_t *conf);

#endif
