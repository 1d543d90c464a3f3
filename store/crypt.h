/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CRYPT_H
#define STORE_CRYPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "store/layout.h"

/* crypt: how one archive names its pages and seals its bytes.
 *
 * Everything in store/ that computes the digest of a page does it here, so that
 * no other place knows whether digests are keyed.  Immutable once made: any
 * thread may use it. */

struct crypt;

/* The context of the archive with this id, not encrypted: digests are SHA-256. */
MUST_USE enum err crypt_create(const uint8_t archive_id[16], struct crypt **out);
void crypt_destroy(struct crypt *c); /* NULL allowed */

const uint8_t *crypt_archive_id(const struct crypt *c); /* 16 bytes, borrowed while c lives */

/* Whether equal pages have equal digests in both. */
bool crypt_same_domain(const struct crypt *a, const struct crypt *b);

/* The digest by which a page of PAGE_BYTES is known in this archive. */
void crypt_page(const struct crypt *c, const uint8_t *page, struct digest *out);
/* Whether the page has that digest. */
bool crypt_page_is(const struct crypt *c, const uint8_t *page, const struct digest *want);

#endif
