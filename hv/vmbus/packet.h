/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_PACKET_H
#define HV_VMBUS_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"

/* packet: what a packet, already copied out of its ring, means (docs/vmbus.md 12).
 *
 * Pure functions over borrowed bytes; ERR_GUEST for anything malformed. */

struct packet { /* all borrowed from the bytes that were parsed */
	uint16_t type, flags;
	uint64_t transaction;
	const uint8_t *header; /* after the descriptor, before the payload */
	size_t header_bytes;
	const uint8_t *data; /* payload, with its padding to 8 bytes */
	size_t bytes;
};

MUST_USE enum err packet_parse(const uint8_t *p, size_t len, struct packet *out);

struct packet_range { /* all of it RAM, not across the hole */
	struct gpa at;
	uint32_t bytes;
};

/* Guest memory that a GPA-direct packet names, in order, neighbours joined: at most
 * `room` pieces, each checked against RAM.  *total: bytes of all.  A packet with more
 * pieces, more than max_total bytes, or page numbers that do not lie in the packet is
 * ERR_GUEST.  A packet of another type has none. */
MUST_USE enum err packet_ranges(const struct packet *p, const struct memory *m,
				uint64_t max_total, struct packet_range *out, size_t room,
				size_t *count, uint64_t *total);

#endif
