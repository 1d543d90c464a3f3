/* SPDX-License-Identifier: Apache-2.0 */
/* image: synthetic kernels for tests: a bzImage and a PVH ELF as plain bytes. */
#ifndef TESTS_HV_IMAGE_H
#define TESTS_HV_IMAGE_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

#define IMAGE_SETUP_SECTS 3u
#define IMAGE_PAYLOAD_AT ((IMAGE_SETUP_SECTS + 1) * 512u)
#define IMAGE_PVH_CODE_AT 0x100u
#define IMAGE_PVH_LOAD 0x100000u

/* A bzImage with `payload` bytes after its setup part, wanting 1 MiB + init bytes. */
static inline void image_bzimage(struct buf *b, uint32_t payload, uint32_t init_bytes)
{
	uint8_t h[IMAGE_PAYLOAD_AT] = {0};

	h[0x1f1] = IMAGE_SETUP_SECTS;
	le32_put(h + 0x1f4, payload / 16);
	le16_put(h + 0x1fe, 0xaa55);
	h[0x201] = 0x66;
	memcpy(h + 0x202, "HdrS", 4);
	le16_put(h + 0x206, 0x20f);
	h[0x211] = 1;
	le32_put(h + 0x22c, 0x7fffffff);
	h[0x234] = 1;
	le16_put(h + 0x236, 1);
	le32_put(h + 0x238, 2047);
	le64_put(h + 0x258, 0x100000);
	le32_put(h + 0x260, init_bytes);
	buf_clear(b);
	buf_put(b, h, sizeof h);
	for (uint32_t i = 0; i < payload; i++)
		buf_put_le8(b, (uint8_t)(i * 7 + 1));
}

/* An ELF64 with one LOAD segment (code at IMAGE_PVH_LOAD, memsz bytes) and a PVH note. */
static inline void image_pvh(struct buf *b, const void *code, uint32_t code_bytes, uint64_t memsz)
{
	uint8_t h[IMAGE_PVH_CODE_AT] = {0}, *load = h + 64, *note = h + 120, *n = h + 0xc0;

	memcpy(h, "\177ELF\2\1\1", 7);
	le16_put(h + 16, 2);
	le16_put(h + 18, 62);
	le32_put(h + 20, 1);
	le64_put(h + 32, 64);
	le16_put(h + 52, 64);
	le16_put(h + 54, 56);
	le16_put(h + 56, 2);
	le32_put(load, 1);
	le64_put(load + 8, IMAGE_PVH_CODE_AT);
	le64_put(load + 24, IMAGE_PVH_LOAD);
	le64_put(load + 32, code_bytes);
	le64_put(load + 40, memsz);
	le32_put(note, 4);
	le64_put(note + 8, 0xc0);
	le64_put(note + 32, 20);
	le64_put(note + 40, 20);
	le32_put(n, 4);
	le32_put(n + 4, 4);
	le32_put(n + 8, 18);
	memcpy(n + 12, "Xen", 4);
	le32_put(n + 16, IMAGE_PVH_LOAD);
	buf_clear(b);
	buf_put(b, h, sizeof h);
	buf_put(b, code, code_bytes);
}

/* The bytes as a file without a name; -1 on failure. */
static inline int image_file(const void *p, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, p, len) != (ssize_t)len) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* ---- 32-bit code for a PVH guest ---- */

static inline void code_out8(struct buf *b, uint16_t port, uint8_t v)
{
	const uint8_t c[] = {0x66, 0xba, (uint8_t)port, (uint8_t)(port >> 8), 0xb0, v, 0xee};

	buf_put(b, c, sizeof c);
}

static inline void code_store32(struct buf *b, uint32_t address, uint32_t v)
{
	buf_put_le8(b, 0xc7);
	buf_put_le8(b, 0x05);
	buf_put_le32(b, address);
	buf_put_le32(b, v);
}

/* Send the 32-bit word at address, low byte first, to COM1. */
static inline void code_send32(struct buf *b, uint32_t address)
{
	static const uint8_t dx[] = {0x66, 0xba, 0xf8, 0x03};

	buf_put(b, dx, sizeof dx);
	for (uint32_t i = 0; i < 4; i++) {
		buf_put_le8(b, 0xa0); /* mov al, [address] */
		buf_put_le32(b, address + i);
		buf_put_le8(b, 0xee);
	}
}

static inline void code_spin(struct buf *b)
{
	buf_put_le8(b, 0xeb);
	buf_put_le8(b, 0xfe);
}

#endif
