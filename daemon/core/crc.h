/* crc: the checksum that every file of the state folder ends with, CRC-32 as zip has it (polynomial
   0xedb88320 reflected). It finds what a disk or a hand has changed; whoever means harm can compute
   it. */

#ifndef WKSPD_CORE_CRC_H
#define WKSPD_CORE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes[0 .. len_bytes). */
uint32_t crc_of(char const *bytes, size_t len_bytes);

#endif
