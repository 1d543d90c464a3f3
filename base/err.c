/* SPDX-License-Identifier: Apache-2.0 */
/* err: codes and the thread's one sentence.  See err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char note[ERR_NOTE_BYTES];

static const char *const names[] = {
	[ERR_OK] = "ok",
	[ERR_FAILED] = "failed",
	[ERR_USAGE] = "usage",
	[ERR_NOMEM] = "out-of-memory",
	[ERR_NOSPACE] = "out-of-space",
	[ERR_IO] = "io",
	[ERR_BUSY] = "busy",
	[ERR_CANCELLED] = "cancelled",
	[ERR_CORRUPT] = "corrupt",
	[ERR_VERSION] = "incompatible",
	[ERR_NOTFOUND] = "not-found",
	[ERR_PEER] = "peer",
	[ERR_AUTH] = "refused",
	[ERR_GUEST] = "guest",
	[ERR_UNSUPPORTED] = "unsupported",
};

static void note_set(int sys, const char *fmt, va_list args)
{
	/* Arguments may borrow the old note, so compose beside it. */
	char text[ERR_NOTE_BYTES];

	vsnprintf(text, sizeof(text), fmt, args);
	if (sys) {
		char reason[128];
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, ": %s",
			 strerror_r(sys, reason, sizeof(reason)));
	}
	memcpy(note, text, sizeof(note));
}

enum err err_note(enum err code, int sys, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	note_set(sys, fmt, args);
	va_end(args);
	return code;
}

static enum err code_of(int sys)
{
	switch (sys) {
	case ENOSPC:
	case EDQUOT:
		return ERR_NOSPACE;
	case ENOMEM:
		return ERR_NOMEM;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_AUTH;
	case ENOENT:
		return ERR_NOTFOUND;
	case ECANCELED:
		return ERR_CANCELLED;
	default:
		return ERR_IO;
	}
}

enum err err_sys(int sys, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	note_set(sys, fmt, args);
	va_end(args);
	return code_of(sys);
}

enum err err_context(enum err code, const char *fmt, ...)
{
	char text[ERR_NOTE_BYTES];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (note[0]) {
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, ": %s", note);
	}
	memcpy(note, text, sizeof(note));
	return code;
}

const char *err_text(void)
{
	return note;
}

const char *err_name(enum err code)
{
	if ((size_t)code < sizeof(names) / sizeof(names[0]))
		return names[code];
	return names[ERR_FAILED];
}

enum err err_from_name(const char *name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return (enum err)i;
	return ERR_FAILED;
}

void err_clear(void)
{
	note[0] = '\0';
}
