/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_SPEC_H
#define HV_VMBUS_SPEC_H

#include <stdint.h>

/* spec: numbers and layouts of Hyper-V's bus, as docs/vmbus.md describes them.
 *
 * Everything on the wire is little-endian and is read and written by byte functions
 * (base/bytes.h); offsets count from the start of the message or packet.
 * Source: docs/vmbus.md 7, 9 to 13. */

/* ---- SynIC (7) ---- */
#define SPEC_SINTS 16u
#define SPEC_MESSAGE_BYTES 240u /* payload of one message */
#define SPEC_FLAGS 2048u	/* event flags of one SINT */
#define SPEC_VMBUS_SINT 2u
#define SPEC_VMBUS_MESSAGE 1u /* message type, both ways */

/* ---- hypercalls (6.5) ---- */
enum spec_call {
	SPEC_CALL_POST_MESSAGE = 0x5c,
	SPEC_CALL_SIGNAL_EVENT = 0x5d,
};
enum spec_status {
	SPEC_STATUS_SUCCESS = 0,
	SPEC_STATUS_INVALID_CODE = 2,
	SPEC_STATUS_INVALID_INPUT = 3,
	SPEC_STATUS_INVALID_ALIGNMENT = 4,
	SPEC_STATUS_INVALID_PARAMETER = 5,
	SPEC_STATUS_ACCESS_DENIED = 6,
	SPEC_STATUS_INVALID_CONNECTION = 18,
	SPEC_STATUS_INSUFFICIENT_BUFFERS = 19,
};

/* ---- control messages (9): type @0, 4 bytes of zero @4 ---- */
enum spec_message {
	SPEC_OFFER = 1,
	SPEC_RESCIND = 2,
	SPEC_REQUEST_OFFERS = 3,
	SPEC_ALL_OFFERS = 4,
	SPEC_OPEN = 5,
	SPEC_OPEN_RESULT = 6,
	SPEC_CLOSE = 7,
	SPEC_GPADL_HEADER = 8,
	SPEC_GPADL_BODY = 9,
	SPEC_GPADL_CREATED = 10,
	SPEC_GPADL_TEARDOWN = 11,
	SPEC_GPADL_TORNDOWN = 12,
	SPEC_RELID_RELEASED = 13,
	SPEC_INITIATE_CONTACT = 14,
	SPEC_VERSION_RESPONSE = 15,
	SPEC_UNLOAD = 16,
	SPEC_UNLOAD_RESPONSE = 17,
	SPEC_TL_CONNECT = 21,
	SPEC_MODIFY = 22,
	SPEC_MODIFY_RESPONSE = 24,
};

enum { /* whole lengths */
	SPEC_OFFER_BYTES = 196,
	SPEC_OPEN_BYTES = 148,
	SPEC_GPADL_HEADER_BYTES = 28, /* and PFNs */
	SPEC_GPADL_BODY_BYTES = 16,   /* and PFNs */
	SPEC_INITIATE_BYTES = 40,
	SPEC_USER_DATA_BYTES = 120,
};

#define SPEC_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))
#define SPEC_VERSION_4_0 SPEC_VERSION(4, 0)
#define SPEC_VERSION_4_1 SPEC_VERSION(4, 1)
#define SPEC_VERSION_5_0 SPEC_VERSION(5, 0)
#define SPEC_VERSION_5_3 SPEC_VERSION(5, 3)
/* Guests post here: the old connection, and the one for protocol 5.0 and later. */
#define SPEC_CONNECTION_OLD 1u
#define SPEC_CONNECTION_NEW 4u

#define SPEC_RELID_MAX (SPEC_FLAGS - 1)
#define SPEC_OFFER_ENUMERATE 0x0001u /* offer flags */
#define SPEC_OFFER_NAMED_PIPE 0x0010u
#define SPEC_PIPE_MESSAGES 4u /* pipe mode */
#define SPEC_FAILED 0xC0000001u

/* ---- rings (11): control page, then data ---- */
#define SPEC_PAGE 4096u
enum {
	SPEC_RING_WRITE = 0,
	SPEC_RING_READ = 4,
	SPEC_RING_MASK = 8,
	SPEC_RING_PENDING = 12,
	SPEC_RING_FEATURES = 64,
	SPEC_TRAILER_BYTES = 8,
};

/* ---- packets (12): type @0, offset8 @2, len8 @4, flags @6, transaction id @8 ---- */
#define SPEC_DESCRIPTOR_BYTES 16u
enum spec_packet {
	SPEC_PACKET_INBAND = 6,
	SPEC_PACKET_TRANSFER_PAGES = 7,
	SPEC_PACKET_GPA_DIRECT = 9,
	SPEC_PACKET_COMPLETION = 11,
};
#define SPEC_PACKET_WANTS_COMPLETION 1u

/* ---- devices (13): GUIDs as they are on the wire ---- */
#define SPEC_GUID(a, b, c, d0, d1, d2, d3, d4, d5, d6, d7)                                         \
	{(uint8_t)(a), (uint8_t)((a) >> 8), (uint8_t)((a) >> 16), (uint8_t)((a) >> 24),            \
	 (uint8_t)(b), (uint8_t)((b) >> 8), (uint8_t)(c), (uint8_t)((c) >> 8),                     \
	 d0, d1, d2, d3, d4, d5, d6, d7}
#define SPEC_GUID_BYTES 16u

#define SPEC_HEARTBEAT                                                                             \
	SPEC_GUID(0x57164f39u, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d)
#define SPEC_HEARTBEAT_INSTANCE                                                                    \
	SPEC_GUID(0xfd149e91u, 0x82e0, 0x4a7d, 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0)
#define SPEC_SHUTDOWN                                                                              \
	SPEC_GUID(0x0e0b6031u, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb)
#define SPEC_SHUTDOWN_INSTANCE                                                                     \
	SPEC_GUID(0xb6650ff7u, 0x33bc, 0x4840, 0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93)
#define SPEC_TIMESYNC                                                                              \
	SPEC_GUID(0x9527e630u, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf)
#define SPEC_TIMESYNC_INSTANCE                                                                     \
	SPEC_GUID(0x2dd1ce17u, 0x079e, 0x403c, 0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee)
#define SPEC_SCSI                                                                                  \
	SPEC_GUID(0xba6163d9u, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f)
/* Their places, for providers to come: VSS backup, key-value exchange, network. */
#define SPEC_VSS                                                                                   \
	SPEC_GUID(0x35fa2e29u, 0xea23, 0x4236, 0x96, 0xae, 0x3a, 0x6e, 0xba, 0xcb, 0xa4, 0x40)
#define SPEC_KVP                                                                                   \
	SPEC_GUID(0xa9a0f4e7u, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6)
#define SPEC_NETWORK                                                                               \
	SPEC_GUID(0xf8615163u, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e)

#endif
