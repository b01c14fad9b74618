/* near: parts of a workspace, counted in pages, and near which cpus they are wanted. */

#ifndef WKSP_CLIENT_NEAR_H
#define WKSP_CLIENT_NEAR_H

#include "wksp/types.h"

/* The bytes of all parts. call: for the sentence. 0 or E_INVAL, reported. */
int wksp__near_size(char const *call, char const *name, ulong page_sz, ulong sub_cnt,
                    ulong const *sub_page_cnt, ulong *ret_size);

/* The memory node of a cpu by what lies in sys (/sys); -1: the kernel knows of no nodes. 0 and
 *ret_node, or 1: there is no such cpu. */
int wksp__near_node(char const *sys, ulong cpu, int *ret_node);

#endif
