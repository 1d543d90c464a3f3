/* SPDX-License-Identifier: Apache-2.0 */
/* netfs: by the numbers of statfs(2).
 *
 * Source: linux/magic.h; for those that it lacks, the file systems' own sources. */
#include "base/netfs.h"

#include "base/fs.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char *netfs_name(uint64_t type)
{
	static const struct {
		uint32_t type;
		const char *name;
	} known[] = {{0x6969, "NFS"},	    {0xff534d42, "SMB"},
		     {0xfe534d42, "SMB"},   {0x517b, "SMB"},
		     {0x01021997, "9p"},    {0x65735546, "FUSE"},
		     {0x5346414f, "AFS"},   {0x6b414653, "AFS"},
		     {0x73757245, "Coda"},  {0x00c36400, "Ceph"},
		     {0x0bd00bd0, "Lustre"}, {0x01161970, "GFS2"},
		     {0x7461636f, "OCFS2"}, {0x786f4256, "a VirtualBox shared folder"},
		     {0xbacbacbc, "a VMware shared folder"}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].type == (uint32_t)type)
			return known[i].name;
	return NULL;
}

enum err netfs_of(const char *path, const char **name)
{
	char at[4096];
	uint64_t type;
	enum err e;

	*name = NULL;
	if (snprintf(at, sizeof(at), "%s%s", path[0] == '/' ? "" : "./", path) >= (int)sizeof(at))
		return err_note(ERR_USAGE, 0, "%.64s...: the path is too long", path);
	while ((e = fs_type(at, &type)) == ERR_NOTFOUND) {
		char *slash = strrchr(at, '/');

		if (!slash || at[1] == '\0')
			break;
		slash[slash == at] = '\0';
	}
	if (e == ERR_OK)
		*name = netfs_name(type);
	return e;
}
