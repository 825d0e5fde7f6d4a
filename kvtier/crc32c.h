// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the SSE 4.2 instruction where the CPU has it.
#ifndef KVTIER_CRC32C_H
#define KVTIER_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over data. */
uint32_t crc32c(uint32_t crc, const void *data, size_t bytes);
/* The table-driven form, for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t bytes);

#endif
