/* SPDX-License-Identifier: Apache-2.0 */
/* shared: what is opened when it is first needed. */
#include "store/shared.h"

#include <stdlib.h>

enum err shared_pool(struct archive *a, struct pool **out)
{
	enum err e = a->pool ? ERR_OK : pool_create(a->threads, &a->pool);

	*out = a->pool;
	return e;
}

void shared_index_close(struct archive *a)
{
	for (unsigned i = 0; i < a->old_indexes; i++)
		index_close(a->old_index[i]);
	free(a->old_index);
	a->old_index = NULL;
	a->old_indexes = 0;
	index_close(a->index);
	a->index = NULL;
}

/* One that was opened before something was condemned may still lead there.  Another writer may
 * be using it, whose lease allows that. */
static enum err retire(struct archive *a)
{
	struct index **more;

	if (a->writers == 1) {
		shared_index_close(a);
		catalog_forget(a->catalog);
		return ERR_OK;
	}
	more = realloc(a->old_index, (a->old_indexes + 1u) * sizeof(struct index *));
	if (!more)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	more[a->old_indexes++] = a->index;
	a->old_index = more;
	a->index = NULL;
	return ERR_OK;
}

enum err shared_index(struct archive *a, uint64_t epoch, struct progress *progress)
{
	enum err e = ERR_OK;

	if (a->index && a->index_epoch != epoch)
		e = retire(a);
	if (e != ERR_OK || a->index)
		return e;
	e = index_open(a->root, a->crypt, a->catalog, progress, &a->index);
	if (e == ERR_OK)
		a->index_epoch = epoch;
	return e;
}
