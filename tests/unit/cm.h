/* SPDX-License-Identifier: Apache-2.0 */
/* cm: cmocka with the headers it wants before itself. */
#ifndef TESTS_CM_H
#define TESTS_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

/* The expected code, with the note in the failure's text. */
#define assert_err(expression, code)                                                               \
	do {                                                                                       \
		enum err assert_err_got = (expression);                                            \
		if (assert_err_got != (code))                                                      \
			fail_msg("%s: got %s (%s), expected %s", #expression,                      \
				 err_name(assert_err_got), err_text(), err_name(code));            \
	} while (0)
#define assert_ok(expression) assert_err(expression, ERR_OK)

#endif
