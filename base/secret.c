/* SPDX-License-Identifier: Apache-2.0 */
/* secret: anonymous mappings of their own.  See secret.h.
 *
 * Locking is a wish: an unprivileged process may lock little, and a key that may be
 * swapped out is better than an archive that cannot be opened. */
#include "base/secret.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static atomic_bool guarded;

void *secret_alloc(size_t len)
{
	void *p = mmap(NULL, len ? len : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, len ? len : 1, MADV_DONTDUMP);
	(void)mlock(p, len ? len : 1);
	if (atomic_load(&guarded))
		(void)madvise(p, len ? len : 1, MADV_WIPEONFORK);
	return p;
}

void secret_free(void *p, size_t len)
{
	if (!p)
		return;
	secret_wipe(p, len);
	munmap(p, len ? len : 1);
}

void secret_wipe(void *p, size_t len)
{
	OPENSSL_cleanse(p, len);
}

void secret_guard_process(void)
{
	atomic_store(&guarded, true);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
