/* SPDX-License-Identifier: Apache-2.0 */
/* catalog: open packs with their directories, shared and bounded.
 *
 * A list ordered by use, newest first; with some dozens of entries a walk costs
 * less than what it saves.  Loading happens outside of the lock: two threads
 * may load the same pack, and the later one drops its copy. */
#include "store/catalog.h"

#include "base/fs.h"
#include "base/thread.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct catalog_pack pack; /* first: entries are found from it */
	unsigned users;
	struct entry *next;
};

struct catalog {
	int root;		   /* borrowed */
	const struct crypt *crypt; /* borrowed */
	pthread_mutex_t lock;
	struct entry *first;
};

enum err catalog_create(int root, const struct crypt *crypt, struct catalog **out)
{
	struct catalog *c = calloc(1, sizeof(*c));

	if (!c)
		return err_note(ERR_NOMEM, 0, "make a catalog: out of memory");
	c->root = root;
	c->crypt = crypt;
	pthread_mutex_init(&c->lock, NULL);
	*out = c;
	return ERR_OK;
}

static void entry_free(struct entry *e)
{
	if (!e)
		return;
	fs_auto_close(&e->pack.fd);
	pack_dir_fini(&e->pack.dir);
	free(e);
}

void catalog_destroy(struct catalog *c)
{
	if (!c)
		return;
	while (c->first) {
		struct entry *e = c->first;

		assert(e->users == 0);
		c->first = e->next;
		entry_free(e);
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Find and move to the front; NULL if not loaded. */
static struct entry *find(struct catalog *c, const struct pack_id *id)
{
	for (struct entry **link = &c->first; *link; link = &(*link)->next) {
		struct entry *e = *link;

		if (memcmp(&e->pack.ref.id, id, sizeof(*id)) != 0)
			continue;
		*link = e->next;
		e->next = c->first;
		c->first = e;
		return e;
	}
	return NULL;
}

/* Unlink the unused entries beyond the bound; the caller frees the list. */
static struct entry *trim(struct catalog *c)
{
	struct entry *dropped = NULL;
	unsigned unused = 0;

	for (struct entry **link = &c->first; *link;) {
		struct entry *e = *link;

		if (e->users || ++unused <= CATALOG_KEEP) {
			link = &e->next;
			continue;
		}
		*link = e->next;
		e->next = dropped;
		dropped = e;
	}
	return dropped;
}

static void free_list(struct entry *e)
{
	while (e) {
		struct entry *next = e->next;

		entry_free(e);
		e = next;
	}
}

static enum err load(struct catalog *c, const struct pack_ref *ref, struct entry **out)
{
	struct entry *n = calloc(1, sizeof(*n));
	enum err e;

	if (!n)
		return err_note(ERR_NOMEM, 0, "load a pack: out of memory");
	n->pack.fd = -1;
	n->pack.crypt = c->crypt;
	n->pack.ref = *ref;
	layout_pack_path(&ref->id, n->pack.path);
	e = fs_open(c->root, n->pack.path, O_RDONLY, 0, &n->pack.fd);
	if (e == ERR_NOTFOUND)
		e = err_note(ERR_CORRUPT, 0, "%s is missing", n->pack.path);
	if (e == ERR_OK)
		e = pack_dir_read(n->pack.fd, n->pack.path, ref, &n->pack.dir);
	if (e != ERR_OK) {
		entry_free(n);
		return e;
	}
	*out = n;
	return ERR_OK;
}

static enum err take(struct entry *e, const struct pack_ref *ref, const struct catalog_pack **out)
{
	if (!pack_ref_equal(&e->pack.ref, ref))
		return err_note(ERR_CORRUPT, 0, "%s: two references to it disagree",
				e->pack.path);
	e->users++;
	*out = &e->pack;
	return ERR_OK;
}

enum err catalog_get(struct catalog *c, const struct pack_ref *ref, const struct catalog_pack **out)
{
	struct entry *mine = NULL, *dropped = NULL, *have;
	enum err e;

	pthread_mutex_lock(&c->lock);
	if ((have = find(c, &ref->id)) != NULL) {
		e = take(have, ref, out);
		pthread_mutex_unlock(&c->lock);
		return e;
	}
	pthread_mutex_unlock(&c->lock);
	if ((e = load(c, ref, &mine)) != ERR_OK)
		return e;
	pthread_mutex_lock(&c->lock);
	if ((have = find(c, &ref->id)) == NULL) {
		mine->next = c->first;
		c->first = have = mine;
		mine = NULL;
	}
	e = take(have, ref, out);
	dropped = trim(c);
	pthread_mutex_unlock(&c->lock);
	free_list(dropped);
	entry_free(mine);
	return e;
}

static struct entry *entry_of(const struct catalog_pack *p)
{
	return (struct entry *)(uintptr_t)p;
}

void catalog_hold(struct catalog *c, const struct catalog_pack *p)
{
	AUTO_LOCK(&c->lock);
	entry_of(p)->users++;
}

void catalog_put(struct catalog *c, const struct catalog_pack *p)
{
	struct entry *dropped;

	if (!p)
		return;
	pthread_mutex_lock(&c->lock);
	assert(entry_of(p)->users > 0);
	entry_of(p)->users--;
	dropped = trim(c);
	pthread_mutex_unlock(&c->lock);
	free_list(dropped);
}
