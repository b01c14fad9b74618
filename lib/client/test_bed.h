/* test_bed: a peer that answers Opens, right or wrong, with a real memory and lifelines. */

#ifndef WKSP_CLIENT_TEST_BED_H
#define WKSP_CLIENT_TEST_BED_H

#include "client/test_peer.h"

#define BED_MEMORY_SIZE (4UL << 20)

/* A workspace's memory as a daemon keeps it, and the leases that were granted on it. */
#define BED_LEASE_MAX 64

typedef struct bed_memory {
  int fd, fd_ro;
  uint8_t uuid[16];
  int leases[BED_LEASE_MAX]; /* the daemon's ends of lifelines */
  int lease_cnt;
} bed_memory_t;

/* What the next Opens are answered with; 0: what is right. */
typedef struct bed_serve {
  bed_memory_t *memory;
  int cnt;       /* Opens to answer */
  int accept_at; /* before this one of them (from 1) a new connection is waited for, 0: none */
  int wrong_layout, wrong_hash, wrong_uuid, wrong_lease, wrong_memory_kind, wrong_lifeline;
  int quarantined;
  uint64_t map_size;
  int fd;                /* another memory */
  uint32_t fds_declared; /* + 1 */
  uint32_t fds_sent;     /* + 1 */
  int merged;            /* other bytes come first, in the same message */
  int in_pieces;         /* byte by byte, descriptors with the first */
} bed_serve_t;

typedef struct bed {
  peer_t peer;
  bed_memory_t memory;
  bed_serve_t serve;
  wksp_client_t *client;
  int fds; /* open descriptors before anything was attached */
} bed_t;

/* As cmocka's setup and teardown: *state is the bed. Its workspace is called "w", its seed is 11.
 */
int bed_setup(void **state);
int bed_teardown(void **state);

/* Starts the peer; bed->client is connected to it. */
void bed_serve(bed_t *bed, bed_serve_t serve);

/* The peer has answered all; its connection and the client's are closed. */
void bed_served(bed_t *bed);

/* The script of the peer: answers serve->cnt Opens; a client that hangs up is waited for again. */
void bed_script(peer_t *peer, void *arg);

/* 1: the other end of that lifeline is closed everywhere. */
int bed_lease_ended(bed_t const *bed, int lease);

#endif
