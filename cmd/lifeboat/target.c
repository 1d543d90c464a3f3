/* SPDX-License-Identifier: Apache-2.0 */
/* target: see target.h. */
#include "cmd/lifeboat/target.h"

#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"

enum err target_option(void *args, int key, char *value)
{
	struct target *t = args;

	switch (key) {
	case CLI_ARGUMENT: t->name = value; return ERR_OK;
	case CLI_KEY_JSON: t->json = true; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &t->timeout_ns);
	default: return cli_unknown_key(key);
	}
}

enum err target_connect(const struct target *t, uint64_t timeout_ns, struct remote **r)
{
	struct home h;
	enum err e = home_open(&h);

	return e == ERR_OK ? home_connect(&h, t->name, timeout_ns, r) : e;
}
