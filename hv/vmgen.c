/* SPDX-License-Identifier: Apache-2.0 */
/* vmgen: the VM Generation ID; see vmgen.h. */
#include "hv/vmgen.h"

#include <errno.h>
#include <sys/random.h>

enum { TAG_ID = 1 };

static const struct state_field vmgen_fields[] = {
	{TAG_ID, STATE_BYTES, false, "generation_id"},
};

const struct state_kind vmgen_state_kind = {
	.kind = "vmgen", .version = 1, .fields = vmgen_fields, .count = 1};

enum err vmgen_init(struct vmgen *g)
{
	return vmgen_renew(g);
}

enum err vmgen_renew(struct vmgen *g)
{
	if (getrandom(g->id, sizeof(g->id), 0) != (ssize_t)sizeof(g->id))
		return err_sys(errno, "generation id: random bytes");
	return ERR_OK;
}

enum err vmgen_write(const struct vmgen *g, struct memory *m)
{
	return memory_write(m, gpa(VMGEN_ADDRESS), g->id, sizeof(g->id));
}

void vmgen_save(const struct vmgen *g, struct state_out *out)
{
	state_begin(out, &vmgen_state_kind, 0);
	state_put_bytes(out, TAG_ID, g->id, sizeof(g->id));
	state_end(out);
}

enum err vmgen_load(struct vmgen *g, struct state_file *file)
{
	struct state_in *in;
	enum err e = state_find(file, &vmgen_state_kind, 0, &in);

	return e == ERR_OK ? state_get_exact(in, TAG_ID, g->id, sizeof(g->id)) : e;
}
