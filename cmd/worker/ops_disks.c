/* SPDX-License-Identifier: Apache-2.0 */
/* ops_disks: requests about disks; see ops.h.
 *
 * A descriptor that comes to stay must be a file or a block device, opened as the disk is
 * to be used.  Unlike others it may be one that blocks: only the disks' own threads read
 * and write it; its size and whether it can have holes are asked here, of a file system
 * that whoever owns the machine chose. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "cmd/worker/ops_parts.h"
#include "hv/config.h"
#include "hv/vm_disks.h"

#define NOWHERE UINT32_MAX

enum err ops_disk(struct ops_call *c)
{
	const struct vm_config *config = steward_config(c->steward);
	uint64_t lun;
	enum err e = ops_get_u64(c->request, "lun", UINT32_MAX, NOWHERE, &lun);
	int fd = e == ERR_OK ? vm_disks_fd(steward_vm(c->steward), (unsigned)lun) : -1;

	if (e == ERR_OK && fd < 0)
		e = err_note(ERR_NOTFOUND, 0, "machine %s: has no disk%" PRIu64, config->name, lun);
	if (e != ERR_OK)
		return e;
	c->fds[c->fd_count++] = fd;
	for (uint32_t i = 0; i < config->disk_count; i++)
		if (config->disks[i].lun == lun)
			return ops_put_u64(c->reply, "bytes", config->disks[i].bytes);
	return ERR_OK;
}

/* What a request may want done only when the machine can be changed. */
static enum err changeable(struct ops_call *c, struct vm **vm, uint64_t *lun)
{
	enum err e = ops_get_u64(c->request, "lun", UINT32_MAX, NOWHERE, lun);

	return e == ERR_OK ? steward_change(c->steward, vm) : e;
}

static enum err changed(struct ops_call *c, enum err e, const char *event, uint64_t lun)
{
	char name[32];

	if (e != ERR_OK)
		return err_context(e, "machine %s", steward_config(c->steward)->name);
	(void)snprintf(name, sizeof(name), "disk%" PRIu64, lun);
	steward_changed(c->steward, event, name);
	return ERR_OK;
}

static enum err check_content(int fd, bool read_only)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) != 0)
		return err_sys(errno, "request: its descriptor");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_note(ERR_USAGE, 0,
				"request: its descriptor is neither a file nor a block "
				"device");
	if ((flags & O_ACCMODE) != (read_only ? O_RDONLY : O_RDWR))
		return err_note(ERR_USAGE, 0,
				"request: its descriptor is not open as the disk is to be");
	return ERR_OK;
}

static enum err get_words(const json_t *request, struct config_disk *d)
{
	const char *cache = json_string_value(json_object_get(request, "cache"));
	const char *id = json_string_value(json_object_get(request, "identity"));
	const char *on_error = json_string_value(json_object_get(request, "on_error"));
	enum err e = ops_get_bool(request, "read_only", &d->read_only);

	if (e == ERR_OK && (!id || strlen(id) != 2 * CONFIG_DISK_ID_BYTES ||
			    !bytes_unhex(id, d->id, CONFIG_DISK_ID_BYTES)))
		e = err_note(ERR_USAGE, 0, "request: \"identity\" is not of 32 digits");
	if (e == ERR_OK && cache)
		e = config_cache_parse(cache, &d->cache);
	return e == ERR_OK && on_error ? config_on_error_parse(on_error, &d->on_error) : e;
}

static enum err take_content(struct ops_call *c, struct config_disk *d, struct vm_disk *content)
{
	enum err e = get_words(c->request, d);

	if (e != ERR_OK)
		return e;
	content->fd = line_take_fd(c->io);
	if (d->cache == CONFIG_CACHE_DIRECT)
		content->direct_fd = line_take_fd(c->io);
	if (content->fd < 0 || (d->cache == CONFIG_CACHE_DIRECT && content->direct_fd < 0))
		return err_note(ERR_USAGE, 0,
				"request: needs a descriptor, or two if its cache is "
				"direct");
	e = check_content(content->fd, d->read_only);
	if (e == ERR_OK && content->direct_fd >= 0)
		e = check_content(content->direct_fd, d->read_only);
	return e;
}

enum err ops_disk_add(struct ops_call *c)
{
	struct vm_disk content = VM_DISK_NONE;
	struct config_disk d = {0};
	uint64_t lun;
	struct vm *vm;
	enum err e = take_content(c, &d, &content);

	if (e == ERR_OK)
		e = changeable(c, &vm, &lun);
	if (e == ERR_OK)
		d.lun = lun < CONFIG_MAX_DISKS ? (uint8_t)lun : CONFIG_MAX_DISKS;
	if (e == ERR_OK)
		e = changed(c, vm_disks_add(vm, &content, &d), "disk-added", d.lun);
	if (e != ERR_OK) {
		fs_auto_close(&content.fd);
		fs_auto_close(&content.direct_fd);
		return e;
	}
	return ops_put_u64(c->reply, "bytes", d.bytes);
}

enum err ops_disk_remove(struct ops_call *c)
{
	struct vm *vm;
	uint64_t lun;
	enum err e = changeable(c, &vm, &lun);

	return e == ERR_OK ? changed(c, vm_disks_remove(vm, (unsigned)lun), "disk-removed", lun)
			   : e;
}

enum err ops_disk_resize(struct ops_call *c)
{
	uint64_t lun, bytes;
	struct vm *vm;
	enum err e = ops_get_u64(c->request, "bytes", INT64_MAX, 0, &bytes);

	if (e == ERR_OK)
		e = changeable(c, &vm, &lun);
	return e == ERR_OK
		       ? changed(c, vm_disks_resize(vm, (unsigned)lun, bytes), "disk-resized", lun)
		       : e;
}
