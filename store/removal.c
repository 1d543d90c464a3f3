/* SPDX-License-Identifier: Apache-2.0 */
/* removal: a checkpoint goes, or is kept from going.
 *
 * Removing is: under pins/lock, no pin holds it; lift the condemnation of every pack it
 * lists; unlink its manifest; sync manifests/.  A crash leaves it whole or gone.
 *
 * Why lift: a collection that condemned a pack counts on the manifests that it saw then
 * and on those that it sees before it deletes.  A checkpoint that came and went in between
 * may still be read by somebody whose lease is younger than the condemnation.  Without its
 * record the pack is kept, and condemned anew with a younger epoch. */
#include "store/removal.h"

#include "base/fs.h"
#include "store/condemn.h"
#include "store/manifest.h"
#include "store/pin.h"
#include "store/reserve.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static enum err sync_manifests(int root)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, LAYOUT_MANIFESTS, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, LAYOUT_MANIFESTS) : e;
}

static enum err lift(int root, const struct condemned_set *set, const struct manifest *m)
{
	for (size_t i = 0; i < set->count; i++) {
		bool listed = !m;
		enum err e;

		for (uint32_t k = 0; m && !listed && k < m->n_packs; k++)
			listed = memcmp(&m->pack[k].id, &set->item[i].id, PACK_ID_BYTES) == 0;
		if (listed &&
		    (e = condemned_lift(root, &set->item[i].id, set->item[i].forward)) != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* One that cannot be read may list anything. */
static enum err lift_listed(struct archive *a, const struct checkpoint_info *c)
{
	AUTO_FD int fd = -1;
	struct condemned_set set;
	struct manifest m;
	enum err e = condemned_load(a->root, false, &set);

	if (e != ERR_OK || set.count == 0) {
		condemned_fini(&set);
		return e;
	}
	e = manifest_load(a->root, a->crypt, c->name, c->number, &m, &fd);
	if (e == ERR_OK) {
		e = lift(a->root, &set, &m);
		manifest_fini(&m);
	} else if (e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO || e == ERR_AUTH) {
		e = lift(a->root, &set, NULL);
	}
	condemned_fini(&set);
	return e;
}

static enum err remove_locked(struct archive *a, const struct checkpoint_info *c)
{
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_manifest_path(c->name, c->number, path);
	if ((e = pin_check(a->root, c->name, c->number)) != ERR_OK ||
	    (e = lift_listed(a, c)) != ERR_OK || (e = fs_unlink(a->root, path)) != ERR_OK)
		return e;
	return sync_manifests(a->root);
}

static enum err not_there(const struct checkpoint_info *c, enum err e)
{
	if (e != ERR_NOTFOUND)
		return e;
	return err_note(e, 0, "no checkpoint %s@%llu in the archive", c->name,
			(unsigned long long)c->number);
}

enum err removal(struct archive *a, const struct checkpoint_info *c)
{
	AUTO_FD int lock = -1;
	bool freed = false;
	enum err e;

	if (!a->writable)
		return err_note(ERR_USAGE, 0, "the archive was opened for reading only");
	if (!layout_name_ok(c->name) || c->number == 0)
		return err_note(ERR_USAGE, 0, "remove a checkpoint: malformed name");
	if ((e = pin_lock(a->root, &lock)) != ERR_OK)
		return e;
	e = remove_locked(a, c);
	if (e == ERR_NOSPACE && reserve_release(a->root, &freed) == ERR_OK && freed)
		e = remove_locked(a, c);
	return not_there(c, e);
}

enum err removal_pin(struct archive *a, const struct checkpoint_info *c, const char *owner,
		     struct archive_pin *out)
{
	AUTO_FD int lock = -1;
	char path[LAYOUT_PATH_BYTES];
	bool there, freed = false;
	enum err e;

	if (strlen(owner) >= sizeof(out->owner) || owner[0] == '\0')
		return err_note(ERR_USAGE, 0, "a pin names its owner in 1 to %zu bytes",
				sizeof(out->owner) - 1);
	if ((e = pin_lock(a->root, &lock)) != ERR_OK)
		return e;
	layout_manifest_path(c->name, c->number, path);
	if ((e = fs_exists(a->root, path, &there)) != ERR_OK)
		return e;
	if (!there)
		return not_there(c, ERR_NOTFOUND);
	e = pin_create(a->root, c->name, c->number, owner, out);
	if (e == ERR_NOSPACE && reserve_release(a->root, &freed) == ERR_OK && freed)
		e = pin_create(a->root, c->name, c->number, owner, out);
	return e;
}

enum err removal_unpin(struct archive *a, const char *id)
{
	AUTO_FD int lock = -1;
	enum err e = pin_lock(a->root, &lock);

	return e == ERR_OK ? pin_remove(a->root, id) : e;
}
