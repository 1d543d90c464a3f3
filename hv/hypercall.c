/* SPDX-License-Identifier: Apache-2.0 */
/* hypercall: the page's code and the two calls behind it; see hypercall.h.
 *
 * What a call does not use must be 0, as the TLFS wants it; what it points to is copied
 * once and checked.
 *
 * Source: docs/vmbus.md 6; Microsoft TLFS 6.0b, 3.7 to 3.12, 11.11. */
#include "hv/hypercall.h"

#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vmbus/spec.h"

#define CONTROL_CODE 0xffffull
#define CONTROL_FAST (1ull << 16)
#define CONNECTION_BITS 0xffffffu

/* HvSignalEvent with its operands in registers and flag number 0 goes out by a port of its
 * own, where an ioeventfd waits for each connection; then KVM does not even leave to user
 * space, and RCX stays 0, success.  If nobody waits, the exit sets RCX to the status.
 * Everything else leaves by the other port, and the exit sets RAX.  RAX, RCX and flags are
 * all that changes, which callers expect. */
static const uint8_t hypercall_code[] = {
	0xf3, 0x0f, 0x1e, 0xfa,		    /* endbr64 */
	0x81, 0xf9, 0x5d, 0x00, 0x01, 0x00, /* cmp $HvSignalEvent|fast, %ecx */
	0x75, 0x12,			    /* jne 1f */
	0x48, 0x89, 0xd0,		    /* mov %rdx, %rax */
	0x48, 0xc1, 0xe8, 0x20,		    /* shr $32, %rax: flag number, reserved */
	0x75, 0x09,			    /* jnz 1f */
	0x89, 0xd0,			    /* mov %edx, %eax: connection */
	0x31, 0xc9,			    /* xor %ecx, %ecx */
	0xe7, HYPERCALL_PORT_SIGNAL,	    /* out %eax, $HYPERCALL_PORT_SIGNAL */
	0x89, 0xc8,			    /* mov %ecx, %eax */
	0xc3,				    /* ret */
	0xe7, HYPERCALL_PORT_CALL,	    /* 1: out %eax, $HYPERCALL_PORT_CALL */
	0xc3,				    /* ret */
};

enum err hypercall_write_page(struct memory *m, struct gpa at)
{
	uint8_t page[MEMORY_PAGE_BYTES];

	memset(page, 0xCC, sizeof(page));
	memcpy(page, hypercall_code, sizeof(hypercall_code));
	return memory_write(m, at, page, sizeof(page));
}

static uint64_t hypercall_status(enum err e)
{
	switch (e) {
	case ERR_OK: return SPEC_STATUS_SUCCESS;
	case ERR_BUSY: return SPEC_STATUS_INSUFFICIENT_BUFFERS;
	case ERR_NOTFOUND: return SPEC_STATUS_INVALID_CONNECTION;
	default: return SPEC_STATUS_INVALID_PARAMETER;
	}
}

uint64_t hypercall_signal(const struct hypercall_host *h, uint32_t connection)
{
	return hypercall_status(h->signal(h->arg, connection));
}

/* Input: connection u32, reserved u32, type u32, size u32, payload. */
static uint64_t hypercall_post(const struct hypercall_host *h, const struct memory *m,
			       uint64_t input)
{
	uint8_t head[16], payload[SPEC_MESSAGE_BYTES];
	uint32_t len;

	if (memory_read(m, gpa(input), head, sizeof(head)) != ERR_OK)
		return SPEC_STATUS_INVALID_PARAMETER;
	len = le32_get(head + 12);
	if (len > sizeof(payload) ||
	    memory_read(m, gpa(input + sizeof(head)), payload, len) != ERR_OK)
		return SPEC_STATUS_INVALID_PARAMETER;
	return hypercall_status(h->post(h->arg, le32_get(head) & CONNECTION_BITS, le32_get(head + 8),
					payload, len));
}

/* Input: connection u32, flag number u16, reserved u16. */
static uint64_t hypercall_event(const struct hypercall_host *h, uint64_t event)
{
	if (event >> 32)
		return SPEC_STATUS_INVALID_PARAMETER;
	return hypercall_signal(h, (uint32_t)event);
}

uint64_t hypercall_run(const struct hypercall_host *h, const struct memory *m, uint64_t control,
		       uint64_t input)
{
	bool fast = control & CONTROL_FAST;
	uint8_t event[8];

	if ((control & CONTROL_CODE) != SPEC_CALL_POST_MESSAGE &&
	    (control & CONTROL_CODE) != SPEC_CALL_SIGNAL_EVENT)
		return SPEC_STATUS_INVALID_CODE;
	if (control & ~(CONTROL_CODE | CONTROL_FAST)) /* no list, no header of its own */
		return SPEC_STATUS_INVALID_INPUT;
	if (!fast && input % 8)
		return SPEC_STATUS_INVALID_ALIGNMENT;
	if ((control & CONTROL_CODE) == SPEC_CALL_POST_MESSAGE)
		return fast ? SPEC_STATUS_INVALID_INPUT : hypercall_post(h, m, input);
	if (fast)
		return hypercall_event(h, input);
	if (memory_read(m, gpa(input), event, sizeof(event)) != ERR_OK)
		return SPEC_STATUS_INVALID_PARAMETER;
	return hypercall_event(h, le64_get(event));
}
