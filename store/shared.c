/* SPDX-License-Identifier: Apache-2.0 */
/* shared: what is opened when it is first needed. */
#include "store/shared.h"

enum err shared_pool(struct archive *a, struct pool **out)
{
	enum err e = a->pool ? ERR_OK : pool_create(a->threads, &a->pool);

	*out = a->pool;
	return e;
}

/* One that was opened before something was condemned may still lead there. */
enum err shared_index(struct archive *a, uint64_t epoch, struct progress *progress)
{
	enum err e;

	if (a->index && a->index_epoch != epoch && a->writers == 1) {
		index_close(a->index);
		a->index = NULL;
		catalog_forget(a->catalog);
	}
	if (a->index)
		return ERR_OK;
	e = index_open(a->root, a->crypt, a->catalog, progress, &a->index);
	if (e == ERR_OK)
		a->index_epoch = epoch;
	return e;
}
