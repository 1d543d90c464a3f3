/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_FARMEM_H
#define HV_FARMEM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* farmem: guest RAM of another process, read and written from outside; the part of
 * remote.h that needs no connection.  Offsets are hv/memory.h's.
 * Threads: any, after farmem_open. */
struct farmem {
	pid_t pid;
	int pid_fd;	/* the process itself, whoever has its number later; -1: closed */
	int pagemap_fd; /* -1: not to be had */
	uint64_t host_base, bytes;
};
#define FARMEM_CLOSED {.pid_fd = -1, .pagemap_fd = -1}

/* Hold on to the process that has that number now; the caller then makes sure that it is
 * the one that was meant.  host_base and bytes are the caller's to fill in.  ERR_PEER: it
 * has ended. */
MUST_USE enum err farmem_open(pid_t pid, struct farmem *m);
void farmem_close(struct farmem *m);
/* ERR_PEER: the process has ended, before or meanwhile; what was read then may be another
 * one's, what was written is in no machine.  ERR_AUTH: not permitted.  A range outside of
 * RAM is ERR_FAILED. */
MUST_USE enum err farmem_read(const struct farmem *m, uint64_t offset, void *buf, size_t len);
MUST_USE enum err farmem_write(const struct farmem *m, uint64_t offset, const void *buf,
			       size_t len);
/* See remote_next_touched. */
MUST_USE enum err farmem_next_touched(const struct farmem *m, uint64_t *offset, uint64_t *len);

#endif
