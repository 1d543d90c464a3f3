/* SPDX-License-Identifier: Apache-2.0 */
/* device: the life cycle and the byte-wise register access that all chips share. */
#include "hv/device.h"

#include <assert.h>
#include <stddef.h>

void device_init(struct device *dev, const struct device_ops *ops, void *self, unsigned instance)
{
	assert(ops && self);
	dev->ops = ops;
	dev->self = self;
	dev->instance = instance;
	pthread_mutex_init(&dev->lock, NULL);
}

void device_destroy(struct device *dev)
{
	if (!dev)
		return;
	pthread_mutex_destroy(&dev->lock);
	dev->ops->destroy(dev->self);
}

enum err device_read_bytes(struct io *io, uint8_t (*read8)(void *self, uint64_t offset), void *self)
{
	io->data = 0;
	for (unsigned i = 0; i < io->size; i++)
		io->data |= (uint64_t)read8(self, io->offset + i) << 8 * i;
	return ERR_OK;
}

enum err device_write_bytes(const struct io *io,
			    void (*write8)(void *self, uint64_t offset, uint8_t value), void *self)
{
	for (unsigned i = 0; i < io->size; i++)
		write8(self, io->offset + i, (uint8_t)(io->data >> 8 * i));
	return ERR_OK;
}
