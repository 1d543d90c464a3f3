/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat-bootfs: reads kernel and initrd off a guest's disk, in a process that has nothing
 * to lose.
 *
 *   lifeboat-bootfs strict|weak MAX-BYTES
 *
 * Started by lifeboat (cmd/lifeboat/bootdisk.c), never by a person, with an empty environment
 * and these descriptors: 3 the disk, read-only; 4 and 5 empty memory for kernel and
 * initrd; 6 a pipe for the answer, lines of WORD=TEXT:
 *
 *   kernel=PATH  initrd=PATH (none or more)  cmdline=TEXT  from=PATH  dirty=0|1     and  ok=1
 *   error=WORD (base/err.h)  message=TEXT
 *
 * Whatever comes out of here is a guest's word, and whoever reads it treats it so.  Exit
 * status 0 if an answer was written. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "cmd/bootfs/bootpick.h"
#include "cmd/bootfs/seal.h"
#include "cmd/worker/sandbox.h"

enum { DISK_FD = 3, KERNEL_FD, INITRD_FD, ANSWER_FD };

static enum err work(const char *how, uint64_t max_bytes, struct buf *answer)
{
	AUTO_BUF struct buf missing = {0};
	static struct bootpick pick;
	uint64_t disk_bytes;
	enum err e = fs_size(DISK_FD, "disk", &disk_bytes);

	if (e == ERR_OK)
		e = sandbox_enter(strcmp(how, "weak") == 0, &missing);
	if (e == ERR_OK)
		e = seal(max_bytes);
	if (e == ERR_OK)
		e = bootpick_read(DISK_FD, disk_bytes, KERNEL_FD, INITRD_FD, max_bytes, &pick);
	if (e != ERR_OK)
		return e;
	buf_printf(answer, "kernel=%s\n", pick.entry.kernel);
	for (unsigned i = 0; i < pick.entry.initrds; i++)
		buf_printf(answer, "initrd=%s\n", pick.entry.initrd[i]);
	buf_printf(answer, "cmdline=%s\nfrom=%s\ndirty=%d\nok=1\n", pick.entry.cmdline, pick.from,
		   pick.dirty);
	return buf_check(answer);
}

int main(int argc, char **argv)
{
	AUTO_BUF struct buf answer = {0};
	char *end = NULL;
	unsigned long long max_bytes = argc == 3 ? strtoull(argv[2], &end, 10) : 0;

	if (argc != 3 || *end || max_bytes == 0)
		return 2;
	enum err e = work(argv[1], max_bytes, &answer);
	if (e != ERR_OK) {
		buf_clear(&answer);
		buf_printf(&answer, "error=%s\nmessage=%s\n", err_name(e), err_text());
	}
	if (fs_write_next(ANSWER_FD, "answer", answer.data, answer.len) != ERR_OK)
		_exit(1);
	_exit(0);
}
