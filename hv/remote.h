/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_REMOTE_H
#define HV_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/memory.h"

/* remote: a machine as another process sees it, over its control socket.
 *
 * All that capture/, restore/ and cmd/lifeboat know of a running machine.  The
 * keeper reads and writes guest RAM from outside (process_vm_readv/writev; the
 * worker's pid comes from SCM_CREDENTIALS), and gets states over the socket.
 *
 * Protocol (docs/CONTROL.md): one JSON object a line, at most 64 KiB; descriptors
 * ride by SCM_RIGHTS on the line's first byte.
 *   request   {"id": N, "op": "...", ...}
 *   reply     {"id": N, "ok": true, ...} | {"id": N, "ok": false, "error": "corrupt", "message": "..."}
 *   event     {"event": "power-off" | ..., ...}
 * Threads: one connection belongs to one thread; remote_read/remote_write may be
 * called from several.
 * Errors: ERR_PEER if the worker is gone, speaks nonsense, or does not answer in time
 * (then nothing more can be asked on this connection, and a hold on it is over);
 * ERR_CANCELLED; otherwise the worker's own code and sentence. */

#define REMOTE_PROTOCOL 1

struct remote;

/* How long to wait for a worker, which may hang or be stopped.  Requests that work on
 * all of memory or state (boot, load, save, hold, reset) get at least two minutes. */
struct remote_wait {
	uint64_t timeout_ns; /* for a reply; 0: REMOTE_TIMEOUT_NS */
	int cancel_fd;	     /* readable: give up with ERR_CANCELLED; borrowed; -1: none */
};
#define REMOTE_TIMEOUT_NS 10000000000ull
#define REMOTE_WAIT_DEFAULT {.cancel_fd = -1}

/* Connect to a control socket.  wait (borrowed; NULL: the default) counts for this and all
 * later calls.  ERR_NOTFOUND: no such socket, or a stale one.  ERR_PEER: no answer. */
MUST_USE enum err remote_connect(const char *path, const struct remote_wait *wait,
				 struct remote **out);
/* The same over an already connected descriptor (taken). */
MUST_USE enum err remote_adopt(int fd, const struct remote_wait *wait, struct remote **out);
void remote_close(struct remote *r); /* NULL allowed */
int remote_fd(const struct remote *r); /* for poll; borrowed */
pid_t remote_pid(const struct remote *r);
/* Has the worker closed the connection?  What tells an end from a silence after ERR_PEER. */
bool remote_gone(const struct remote *r);

struct remote_status {
	char name[64];
	char state[16];	  /* "created" | "paused" | "running" */
	char stop_reason[32]; /* why paused: "", "request", "power-off", "triple-fault", ... */
	uint32_t vcpus;
	uint64_t memory_bytes;
	uint64_t uptime_ns; /* since the worker started */
	uint64_t exits, unclaimed_accesses, resets;
	uint32_t disks;
	uint64_t disk_bytes; /* of all */
	bool held; /* paused by some connection's hold */
};
MUST_USE enum err remote_status(struct remote *r, struct remote_status *out);
MUST_USE enum err remote_pause(struct remote *r, bool *was_running);
MUST_USE enum err remote_resume(struct remote *r);
/* A pause that belongs to this connection: the worker undoes it by itself when
 * the connection ends, however that happens, so that a job that dies never leaves
 * a machine standing.  *was_running: whether the release will let it run again.
 * park_ns: what stopping the vCPUs and quieting the devices took.  One hold at a
 * time: ERR_BUSY. */
MUST_USE enum err remote_hold(struct remote *r, bool *was_running, uint64_t *park_ns);
/* End the hold; after an interruption too, if that does not take long.  *paused_ns: how
 * long the guest stood, by the worker's clock; 0 if it was not running before.  An ERR_OK
 * also proves that this worker lived until now, so that everything read before came
 * from it. */
MUST_USE enum err remote_release(struct remote *r, uint64_t *paused_ns);
MUST_USE enum err remote_power_button(struct remote *r);
/* The guest's own services (docs/CONTROL.md). */
struct remote_service {
	bool ready;
	char version[16]; /* "" if not ready */
};
struct remote_guest {
	bool connected; /* to the bus */
	char version[16];
	uint64_t channels_offered, channels_open, violations;
	struct remote_service heartbeat, shutdown, time;
	bool healthy;
	uint64_t beats, round_trip_ns; /* answered heartbeats; of the last one */
	uint64_t times, syncs;	       /* answered messages with the time; that set it */
};
MUST_USE enum err remote_guest(struct remote *r, struct remote_guest *out);
/* Ask for a sign of life, set its clock, ask it to switch itself off (or to restart).  The
 * answer is seen in remote_guest, or is the machine's end.  ERR_GUEST: it has no such
 * service, or does not run.  ERR_BUSY: it has not answered the last one. */
MUST_USE enum err remote_guest_ping(struct remote *r);
MUST_USE enum err remote_guest_time(struct remote *r);
MUST_USE enum err remote_guest_shutdown(struct remote *r, bool restart);
MUST_USE enum err remote_reset(struct remote *r);
/* Worker ends at once, after an interruption too; returns when the connection has closed.
 * ERR_PEER: it does not answer. */
MUST_USE enum err remote_kill(struct remote *r);
/* Start from the kernel (CREATED -> PAUSED). */
MUST_USE enum err remote_boot(struct remote *r);

/* Paused or held machines only.  Appended. */
MUST_USE enum err remote_save(struct remote *r, struct buf *state);
/* CREATED only.  Would this state load?  ERR_VERSION names everything that does
 * not fit; changes nothing. */
MUST_USE enum err remote_check(struct remote *r, const void *state, size_t len);
/* CREATED -> PAUSED */
MUST_USE enum err remote_load(struct remote *r, const void *state, size_t len);
MUST_USE enum err remote_config(struct remote *r, struct buf *json);	 /* appended */
/* Descriptors of kernel and initrd (given; -1 if there is none). */
MUST_USE enum err remote_boot_files(struct remote *r, int *kernel_fd, int *initrd_fd);

/* The content of disk<lun> as a descriptor (given), for reading. */
MUST_USE enum err remote_disk(struct remote *r, unsigned lun, int *fd);

/* Disks come, go and change their sizes while the machine is there.  ERR_BUSY: it is held, or
 * its I/O does not end.  d: a
 * disk with a place that is free and an identity; *d gets its bytes.  The descriptors (borrowed;
 * direct_fd: -1 if its cache is not "direct") are locked by whoever opened them. */
struct config_disk;
MUST_USE enum err remote_disk_add(struct remote *r, struct config_disk *d, int fd, int direct_fd);
MUST_USE enum err remote_disk_remove(struct remote *r, unsigned lun);
MUST_USE enum err remote_disk_resize(struct remote *r, unsigned lun, uint64_t bytes);

/* RAM by offset (see hv/memory.h).  Any thread. */
uint64_t remote_memory_bytes(const struct remote *r);
MUST_USE enum err remote_read(const struct remote *r, uint64_t offset, void *buf, size_t len);
MUST_USE enum err remote_write(const struct remote *r, uint64_t offset, const void *buf,
			       size_t len);
/* The first range at or after *offset that was ever touched; *len = 0 if none is
 * left.  Everything outside such ranges is zero; inside, small gaps are included
 * and a range is at most 64 MiB long.  (From /proc/PID/pagemap; where
 * that cannot be read, one range of everything.) */
MUST_USE enum err remote_next_touched(const struct remote *r, uint64_t *offset, uint64_t *len);

/* A console session: a connected stream socket (given), scrollback first if
 * replay (made here; the worker gets the other end).  port 0 = COM1. */
MUST_USE enum err remote_console(struct remote *r, unsigned port, bool replay, int *fd);

/* Wait up to timeout_ns for an event ("" after the time).  text may be empty. */
struct remote_event { char kind[32]; char *text; /* malloc'd, given */ };
MUST_USE enum err remote_next_event(struct remote *r, uint64_t timeout_ns,
				    struct remote_event *out);

#endif
