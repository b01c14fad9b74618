/* top: what the list (cmd_top.c) and the page of one workspace (top_page.c) share. */

#ifndef WKSPCTL_TOP_H
#define WKSPCTL_TOP_H

#include "render.h"
#include "sample.h"

#define LINES_CAP 4096 /* of a page; more are counted */
#define LINE_CAP  256

typedef enum order { BY_NAME, BY_SIZE, BY_CLIENTS, ORDER_CNT } order_t;

typedef struct top {
  cli_t *cli;
  sample_t sample;
  int have;       /* sample is one */
  char away[160]; /* why the daemon was not to be asked, "" */
  double per_second;
  order_t order;
  char selected[FD_WKSP_NAME_MAX + 1];
  ulong first;             /* line of the list that is shown first */
  int paging;              /* the page of `selected` is shown */
  char (*lines)[LINE_CAP]; /* of the page */
  ulong line_cnt;
} top_t;

/* Makes the lines of the page of top->selected. */
void top_page(top_t *top);

/* "5s", "12m", "3h", "4d": how long ago that was; "-" if it never was. */
render_text_t top_age(top_t const *top, ulong ns);

#endif
