/* crc: see crc.h. Bit by bit: the texts are short and rare. Refuses tables. */

#include "daemon/core/crc.h"

uint32_t crc_of(char const *bytes, size_t len_bytes) {
  uint32_t crc = ~0U;
  for (size_t i = 0; i < len_bytes; i++) {
    crc ^= (uint8_t)bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xedb88320U & (0U - (crc & 1U)));
  }
  return ~crc;
}
