/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

/* err: what went wrong, grouped by who has to act.
 *
 * Functions return enum err and nothing else (no -1, no errno).  The place that
 * fails adds one sentence by err_note(); every caller passes the code on
 * unchanged, or translates it once at the public face of a folder with a note
 * of its own.  The note is thread-local and of fixed size, so that an error
 * path never allocates.
 *
 * A note reads "what failed: why" or "what failed: why: what to do"; the
 * program's name is put before it by cmd/.
 */

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum err {
	ERR_OK = 0,
	ERR_FAILED,	 /* none of the below: the note says it */
	ERR_USAGE,	 /* the person asked for something malformed */
	ERR_NOMEM,	 /* this host is out of memory */
	ERR_NOSPACE,	 /* a file system or a quota is full */
	ERR_IO,		 /* a system call on this host failed */
	ERR_BUSY,	 /* exists already, is locked or is running */
	ERR_CANCELLED,	 /* asked to stop, and did */
	ERR_CORRUPT,	 /* stored bytes are not what was written */
	ERR_VERSION,	 /* state or format does not fit this program or host */
	ERR_NOTFOUND,	 /* no such object */
	ERR_PEER,	 /* the other process or host broke off or misbehaved */
	ERR_AUTH,	 /* refused: permission, key, certificate */
	ERR_GUEST,	 /* the guest did something wrong, or did not do it */
	ERR_UNSUPPORTED, /* this host cannot */
};

#define ERR_NOTE_BYTES 512

/* Record a sentence for this thread and return code.  sys is an errno whose
 * text is appended as ": text", or 0.  Any thread; never fails; truncates. */
MUST_USE enum err err_note(enum err code, int sys, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_note, choosing the code from sys: ENOSPC/EDQUOT -> ERR_NOSPACE, ENOMEM
 * -> ERR_NOMEM, EACCES/EPERM/EROFS -> ERR_AUTH, ENOENT -> ERR_NOTFOUND,
 * ECANCELED -> ERR_CANCELLED, anything else -> ERR_IO. */
MUST_USE enum err err_sys(int sys, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Put "prefix: " before the note that this thread holds; returns code. */
MUST_USE enum err err_context(enum err code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The note of this thread, borrowed until its next err_* call; "" if none. */
const char *err_text(void);

/* A stable lower-case word for the code ("corrupt"), static; used in JSON. */
const char *err_name(enum err code);

/* The code of such a word; ERR_FAILED for a word that is none. */
enum err err_from_name(const char *name);

/* Forget the note of this thread. */
void err_clear(void);

#endif
