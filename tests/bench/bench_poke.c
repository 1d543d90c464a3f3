/* SPDX-License-Identifier: Apache-2.0 */
/* bench_poke: writes a file into the RAM of a paused machine, so that benchmarks
 * checkpoint real memory contents.
 *
 *   bench_poke CONTROL-SOCKET FILE OFFSET-BYTES */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "hv/remote.h"

static enum err poke(const char *socket, const char *path, uint64_t offset)
{
	struct remote *r = NULL;
	AUTO_FD int fd = -1;
	uint64_t size = 0;
	enum err e = fs_open(AT_FDCWD, path, O_RDONLY, 0, &fd);

	if (e == ERR_OK)
		e = fs_size(fd, path, &size);
	if (e == ERR_OK)
		e = remote_connect(socket, NULL, &r);
	if (e == ERR_OK) {
		void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
		e = p == MAP_FAILED ? err_sys(errno, "map %s", path)
				    : remote_write(r, offset, p, size);
	}
	remote_close(r);
	return e;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bench_poke CONTROL-SOCKET FILE OFFSET-BYTES\n");
		return 2;
	}
	enum err e = poke(argv[1], argv[2], strtoull(argv[3], NULL, 0));
	if (e != ERR_OK)
		fprintf(stderr, "bench_poke: %s\n", err_text());
	return e != ERR_OK;
}
