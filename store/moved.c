/* SPDX-License-Identifier: Apache-2.0 */
/* moved: see moved.h. */
#include "store/moved.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdlib.h>

void moved_fini(struct moved *o)
{
	free(o->run);
	*o = (struct moved){.n_runs = 0};
}

enum err moved_place(struct moved *o, const struct run *run)
{
	if (o->n_runs && runs_join(&o->run[o->n_runs - 1], run))
		return ERR_OK;
	if (o->n_runs == o->room) {
		uint32_t room = o->room ? 2 * o->room : 64;
		struct run *more = realloc(o->run, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "rewrite a pack: out of memory");
		o->run = more;
		o->room = room;
	}
	o->run[o->n_runs++] = *run;
	return ERR_OK;
}

/* The packs that the runs lead to, and the runs in terms of these. */
static enum err number_targets(struct moved *o, const struct pipeline_pack *packs, uint32_t n_packs,
			       struct forward *f)
{
	uint32_t *number = calloc(n_packs + 1u, sizeof(*number));

	f->target = calloc(n_packs + 1u, sizeof(*f->target));
	if (!number || !f->target) {
		free(number);
		return err_note(ERR_NOMEM, 0, "write the forward of a pack: out of memory");
	}
	for (uint32_t i = 0; i < o->n_runs; i++) {
		uint32_t *mine = &number[o->run[i].pack];

		if (!*mine) {
			f->target[f->n_targets++] = packs[o->run[i].pack].ref;
			*mine = f->n_targets;
		}
		o->run[i].pack = *mine - 1;
	}
	free(number);
	f->ref = o->ref;
	f->run = o->run;
	f->n_runs = o->n_runs;
	return ERR_OK;
}

enum err moved_forward(int root, struct moved *o, const struct pipeline *p)
{
	AUTO_FD int fd = -1;
	struct forward f = {.n_targets = 0};
	char path[LAYOUT_PATH_BYTES];
	uint32_t n;
	const struct pipeline_pack *packs = pipeline_packs(p, &n);
	enum err e;

	layout_pack_path(&o->ref.id, path);
	e = fs_open(root, path, O_RDONLY, 0, &fd);
	if (e == ERR_OK)
		e = number_targets(o, packs, n, &f);
	if (e == ERR_OK)
		e = forward_write(root, fd, path, &f);
	free(f.target);
	return e;
}

enum err moved_sync_dir(int root, const char *path)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, path, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, path) : e;
}
