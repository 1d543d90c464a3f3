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
	forward_fini(&e->pack.forward);
	crypt_key_wipe(&e->pack.key);
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

/* Unlink the unused entries beyond `keep'; the caller frees the list. */
static struct entry *trim(struct catalog *c, unsigned keep)
{
	struct entry *dropped = NULL;
	unsigned unused = 0;

	for (struct entry **link = &c->first; *link;) {
		struct entry *e = *link;

		if (e->users || ++unused <= keep) {
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

/* A pack that was rewritten: its directory is in its forward.  Asked after the pack's own
 * file, which goes only when the forward is durable. */
static enum err load_forward(struct catalog *c, struct entry *n)
{
	struct catalog_pack *p = &n->pack;
	bool damaged;
	enum err e = forward_load(c->root, c->crypt, &p->ref.id, &p->forward, &p->dir, &damaged);

	if (e == ERR_NOTFOUND)
		return err_note(ERR_CORRUPT, 0, "%s is missing", p->path);
	if (e == ERR_OK && !pack_ref_equal(&p->forward.ref, &p->ref))
		e = err_note(ERR_CORRUPT, 0, "%s: its forward and a reference to it disagree", p->path);
	return e;
}

static enum err load(struct catalog *c, const struct pack_ref *ref, struct entry **out)
{
	struct entry *n = calloc(1, sizeof(*n));
	enum err e;

	if (!n)
		return err_note(ERR_NOMEM, 0, "load a pack: out of memory");
	n->pack.fd = -1;
	n->pack.catalog = c;
	n->pack.crypt = c->crypt;
	n->pack.ref = *ref;
	layout_pack_path(&ref->id, n->pack.path);
	e = crypt_pack_key(c->crypt, ref->epoch, &ref->id, &n->pack.key);
	if (e == ERR_CORRUPT)
		e = err_context(e, "%s", n->pack.path);
	if (e == ERR_OK)
		e = fs_open(c->root, n->pack.path, O_RDONLY, 0, &n->pack.fd);
	if (e == ERR_NOTFOUND)
		e = load_forward(c, n);
	else if (e == ERR_OK)
		e = pack_dir_read(n->pack.fd, n->pack.path, ref, &n->pack.key, &n->pack.dir);
	if (e != ERR_OK) {
		entry_free(n);
		return e;
	}
	*out = n;
	return ERR_OK;
}

void catalog_forget(struct catalog *c)
{
	struct entry *dropped;

	pthread_mutex_lock(&c->lock);
	dropped = trim(c, 0);
	pthread_mutex_unlock(&c->lock);
	free_list(dropped);
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
	dropped = trim(c, CATALOG_KEEP);
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
	dropped = trim(c, CATALOG_KEEP);
	pthread_mutex_unlock(&c->lock);
	free_list(dropped);
}
