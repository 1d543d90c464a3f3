/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_IC_H
#define HV_VSP_IC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/state.h"
#include "hv/vmbus/chan.h"
#include "hv/vmbus/vmbus.h"

/* ic: what all integration services have in common: they negotiate a version when the
 * guest opens their channel, and then ask one thing at a time.
 *
 * States: CLOSED -[guest opens]-> NEGOTIATING -[it answers]-> READY | UNFIT
 *         any -[guest closes, reset]-> CLOSED
 * While READY at most one request is out; the guest answers when it likes.
 * Threads: the machine's loop thread.
 * Source: docs/vmbus.md 14. */

#define IC_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))
#define IC_VERSIONS_MAX 8u
#define IC_DATA_MAX 8192u /* of a request or an answer */

enum ic_phase { IC_CLOSED, IC_NEGOTIATING, IC_READY, IC_UNFIT };

struct ic_service { /* constant */
	const char *name;
	uint8_t class_id[SPEC_GUID_BYTES], instance_id[SPEC_GUID_BYTES];
	uint16_t type;			     /* of its messages */
	uint32_t versions[IC_VERSIONS_MAX]; /* best first, ends with 0 */
	uint32_t state_instance;
	/* Each optional. */
	void (*ready)(void *self);
	void (*answer)(void *self, uint32_t status, const uint8_t *data, size_t len);
	void (*closed)(void *self);
	void (*quiet)(void *self);  /* arm no timer from here ... */
	void (*resume)(void *self); /* ... to here */
};

struct ic { /* embedded in a service's own struct; its fields are ic.c's */
	struct chan_provider provider;
	struct chan *chan;
	const struct ic_service *service;
	void *self;
	enum ic_phase phase;
	bool busy; /* a request is out */
	uint32_t framework, version;
	uint64_t transaction;
	/* Kept for the service, and part of the state. */
	uint64_t sequence;
	uint8_t flag;
};

extern const struct state_kind ic_state_kind; /* sections "ic".N */

/* Put it on the bus.  ic and service are borrowed until the bus is gone. */
MUST_USE enum err ic_init(struct ic *ic, const struct ic_service *service, void *self,
			  struct vmbus *bus);
/* Ask; false if it is not ready or a request is out. */
bool ic_request(struct ic *ic, const void *data, size_t len);

#endif
