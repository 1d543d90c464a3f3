/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat kill: end a machine at once.
 *
 * By SIGKILL, so that it also ends a worker that answers nobody.  Its pid comes
 * from the lock file, and is used only while the lock is held; the monitor takes it
 * out before it reaps the worker, so it is never another process's. */
#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

#define GONE_NS (10 * NS_PER_SEC)

static enum err option(void *args, int key, char *value)
{
	const char **name = args;

	if (key != CLI_ARGUMENT)
		return cli_unknown_key(key);
	*name = value;
	return ERR_OK;
}

static const struct cli_verb verb = {
	.name = "kill",
	.args_doc = "NAME",
	.doc = "End a machine at once, as if its power had been cut.\vExample:\n  lifeboat kill web",
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static enum err end_worker(const struct home *h, const char *name)
{
	struct remote *r = NULL;
	int monitor, worker;

	home_pids(h, name, &monitor, &worker);
	if (worker > 1 && home_running(h, name)) {
		if (kill(worker, SIGKILL) == 0 || errno == ESRCH)
			return ERR_OK;
		if (errno != EPERM)
			return err_sys(errno, "machine %s: end its worker %d", name, worker);
	}
	enum err e = home_connect(h, name, &r);
	if (e == ERR_OK)
		e = remote_kill(r);
	remote_close(r);
	return e == ERR_PEER ? ERR_OK : e; /* it is gone, which is what was asked */
}

enum err verb_kill(int argc, char **argv)
{
	const char *name = NULL;
	struct home h;
	enum err e = cli_parse(&verb, argc, argv, &name);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK)
		return e;
	if (!home_running(&h, name))
		return home_missing(name);
	if ((e = end_worker(&h, name)) != ERR_OK)
		return e;
	return home_wait_gone(&h, name, GONE_NS);
}
