/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_CHANNEL_H
#define CMD_LIFEBOAT_CHANNEL_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/* channel: what a launching verb and the monitor say to each other: JSON objects
 * over a SOCK_SEQPACKET pair, one a packet, with descriptors beside them.
 *
 *   launcher  {"config": {...}, "run_dir", "state_dir", "weak_sandbox", "disks_from_image",
 *             "fds": [...]}
 *   monitor   {"error": "ok" | word, "message", "worker_pid"}        the machine is CREATED
 *   launcher  {"keep": true}          from now on the machine lives without us
 *   monitor   {"ended": word, "error": word, "message", "details"}   the last packet
 * A launcher that goes away before it said keep takes the machine with it. */

#define CHANNEL_MAX_FDS 16
#define CHANNEL_MAX_BYTES 65536

/* document is borrowed; count descriptors are borrowed.  ERR_PEER if the other is gone. */
MUST_USE enum err channel_send(int fd, const json_t *document, const int *fds, size_t count);

/* Blocks.  *document and the descriptors are given; *count is room, then how many.
 * ERR_PEER if the other is gone (*document NULL) or sent nonsense;
 * ERR_CANCELLED if a signal came first. */
MUST_USE enum err channel_receive(int fd, json_t **document, int *fds, size_t *count);

#endif
