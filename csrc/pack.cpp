#include "pack.h"

#include <cmath>
#include <cstring>
#include <string>

namespace ff {
namespace {

// Where one row of one block goes.
struct Slot {
  uint8_t* group;  // first byte of the group
  int row;         // row within the panel
  int64_t true_row;
};

uint16_t load16(const uint8_t* from) {
  uint16_t value;
  std::memcpy(&value, from, 2);
  return value;
}

uint32_t load32(const uint8_t* from) {
  uint32_t value;
  std::memcpy(&value, from, 4);
  return value;
}

void store16(uint8_t* to, uint16_t value) { std::memcpy(to, &value, 2); }
void store32(uint8_t* to, uint32_t value) { std::memcpy(to, &value, 4); }

// Copies a float16 scale; exponent bits all ones mean NaN or infinity.
void put_scale(const Slot& slot, uint8_t* to, const uint8_t* from) {
  const uint16_t value = load16(from);
  if ((value & 0x7c00) == 0x7c00)
    throw BadWeight("row " + std::to_string(slot.true_row) + ": a scale is NaN or infinite");
  store16(to + 2 * slot.row, value);
}

// 16 file bytes, low nibbles columns 0 to 15 and high nibbles 16 to 31, as the panel has them.
void put_nibbles(const Slot& slot, uint8_t* plane, const uint8_t* from) {
  for (int j = 0; j < 4; ++j) store32(plane + j * 64 + slot.row * 4, load32(from + 4 * j));
}

// Low nibbles of 32 values into the nibble plane.
void put_values_low4(const Slot& slot, uint8_t* plane, const uint8_t* values) {
  uint8_t packed[16];
  for (int k = 0; k < 16; ++k) packed[k] = (values[k] & 15) | (values[k + 16] & 15) << 4;
  put_nibbles(slot, plane, packed);
}

// The lowest bit of each value: byte (row, i) of the plane has bit g for column 4 * g + i.
void put_bit(const Slot& slot, uint8_t* plane, const uint8_t* values) {
  for (int i = 0; i < 4; ++i) {
    uint8_t bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (values[4 * g + i] & 1) << g;
    plane[slot.row * 4 + i] = bits;
  }
}

// The lowest two bits: two planes, groups 0 to 3 and 4 to 7, two bits a group.
void put_two_bits(const Slot& slot, uint8_t* planes, const uint8_t* values) {
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 4; ++i) {
      uint8_t bits = 0;
      for (int g = 0; g < 4; ++g) bits |= (values[16 * half + 4 * g + i] & 3) << 2 * g;
      planes[half * 64 + slot.row * 4 + i] = bits;
    }
}

void pack_q4_0(const uint8_t* block, const Slot& slot) {
  put_nibbles(slot, slot.group, block + 2);
  put_scale(slot, slot.group + 256, block);
}

void pack_q4_1(const uint8_t* block, const Slot& slot) {
  put_nibbles(slot, slot.group, block + 4);
  put_scale(slot, slot.group + 256, block);
  put_scale(slot, slot.group + 288, block + 2);
}

// The fifth bits of Q5_0 and Q5_1: bit k of a word is column k's.
void put_fifth_bits(const Slot& slot, uint8_t* plane, uint32_t word) {
  uint8_t bits[32];
  for (int k = 0; k < 32; ++k) bits[k] = word >> k & 1;
  put_bit(slot, plane, bits);
}

void pack_q5_0(const uint8_t* block, const Slot& slot) {
  put_nibbles(slot, slot.group, block + 6);
  put_fifth_bits(slot, slot.group + 256, load32(block + 2));
  put_scale(slot, slot.group + 320, block);
}

void pack_q5_1(const uint8_t* block, const Slot& slot) {
  put_nibbles(slot, slot.group, block + 8);
  put_fifth_bits(slot, slot.group + 256, load32(block + 4));
  put_scale(slot, slot.group + 320, block);
  put_scale(slot, slot.group + 352, block + 2);
}

void pack_q8_0(const uint8_t* block, const Slot& slot) {
  for (int g = 0; g < 8; ++g)
    store32(slot.group + g * 64 + slot.row * 4, load32(block + 2 + 4 * g) ^ 0x80808080u);
  put_scale(slot, slot.group + 512, block);
}

// Block b of a Q2_K or Q3_K file block has its two bits at 2 * (b % 4) of 32 bytes.
void unpack_two_bits(const uint8_t* packed, int b, uint8_t* values) {
  for (int k = 0; k < 32; ++k) values[k] = packed[32 * (b / 4) + k] >> 2 * (b % 4) & 3;
}

// A byte of the header: scale in the low half, minimum in the high one, for 16 columns.
void pack_q2_k(const uint8_t* block, const Slot& slot) {
  put_scale(slot, slot.group, block + 80);
  put_scale(slot, slot.group + 32, block + 82);
  for (int s = 0; s < 16; ++s) slot.group[64 + s * 16 + slot.row] = block[s];
  for (int b = 0; b < 8; ++b) {
    uint8_t values[32];
    unpack_two_bits(block + 16, b, values);
    put_two_bits(slot, slot.group + 320 + 128 * b, values);
  }
}

// Sixteen 6-bit scales in twelve bytes, less 32; the third bits of block b are bit b of 32 bytes.
void pack_q3_k(const uint8_t* block, const Slot& slot) {
  const uint8_t* packed = block + 96;
  put_scale(slot, slot.group, block + 108);
  for (int s = 0; s < 16; ++s) {
    const int low = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4;
    const int high = packed[8 + s % 4] >> 2 * (s / 4) & 3;
    slot.group[32 + s * 16 + slot.row] = static_cast<uint8_t>((low | high << 4) - 32);
  }
  for (int b = 0; b < 8; ++b) {
    uint8_t values[32], third[32];
    unpack_two_bits(block + 32, b, values);
    for (int k = 0; k < 32; ++k) third[k] = block[k] >> b;
    put_two_bits(slot, slot.group + 320 + 192 * b, values);
    put_bit(slot, slot.group + 320 + 192 * b + 128, third);
  }
}

// The 6-bit scales and minima of Q4_K and Q5_K: eight of each in twelve bytes.
void put_scales_6bit(const Slot& slot, const uint8_t* packed) {
  for (int j = 0; j < 8; ++j) {
    uint8_t scale, minimum;
    if (j < 4) {
      scale = packed[j] & 63;
      minimum = packed[j + 4] & 63;
    } else {
      scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
      minimum = (packed[j + 4] >> 4) | (packed[j] >> 6) << 4;
    }
    slot.group[64 + j * 16 + slot.row] = scale;
    slot.group[192 + j * 16 + slot.row] = minimum;
  }
}

void pack_q4_k(const uint8_t* block, const Slot& slot) {
  put_scale(slot, slot.group, block);
  put_scale(slot, slot.group + 32, block + 2);
  put_scales_6bit(slot, block + 4);
  for (int b = 0; b < 8; ++b) {
    uint8_t values[32];
    const uint8_t* from = block + 16 + 32 * (b / 2);
    for (int k = 0; k < 32; ++k) values[k] = b % 2 ? from[k] >> 4 : from[k] & 15;
    put_values_low4(slot, slot.group + 320 + 256 * b, values);
  }
}

void pack_q5_k(const uint8_t* block, const Slot& slot) {
  put_scale(slot, slot.group, block);
  put_scale(slot, slot.group + 32, block + 2);
  put_scales_6bit(slot, block + 4);
  for (int b = 0; b < 8; ++b) {
    uint8_t values[32];
    uint8_t fifth[32];
    const uint8_t* from = block + 48 + 32 * (b / 2);
    for (int k = 0; k < 32; ++k) {
      values[k] = b % 2 ? from[k] >> 4 : from[k] & 15;
      fifth[k] = block[16 + k] >> b;
    }
    put_values_low4(slot, slot.group + 320 + 320 * b, values);
    put_bit(slot, slot.group + 320 + 320 * b + 256, fifth);
  }
}

void pack_q6_k(const uint8_t* block, const Slot& slot) {
  put_scale(slot, slot.group, block + 208);
  for (int s = 0; s < 16; ++s) slot.group[32 + s * 16 + slot.row] = block[192 + s];
  for (int b = 0; b < 8; ++b) {
    const uint8_t* low = block + 64 * (b / 4) + 32 * (b % 2);
    const uint8_t* high = block + 128 + 32 * (b / 4);
    uint8_t values[32], upper[32];
    for (int k = 0; k < 32; ++k) {
      values[k] = b % 4 < 2 ? low[k] & 15 : low[k] >> 4;
      upper[k] = high[k] >> 2 * (b % 4);
    }
    put_values_low4(slot, slot.group + 320 + 384 * b, values);
    put_two_bits(slot, slot.group + 320 + 384 * b + 256, upper);
  }
}

// Nibbles as in Q4_0, blocks with 6-bit scales, less 32.
void pack_iq4_xs(const uint8_t* block, const Slot& slot) {
  const int high = load16(block + 2);
  put_scale(slot, slot.group, block);
  for (int b = 0; b < 8; ++b) {
    const int low = block[4 + b / 2] >> 4 * (b % 2) & 15;
    slot.group[32 + b * 16 + slot.row] =
        static_cast<uint8_t>((low | (high >> 2 * b & 3) << 4) - 32);
    put_nibbles(slot, slot.group + 192 + 256 * b, block + 8 + 16 * b);
  }
}

// Int8 with one scale for the whole row, whatever its length.
void pack_i8_row(const uint8_t* from, int64_t cols, float scale, int64_t true_row, int row,
                 uint8_t* panel) {
  if (!std::isfinite(scale))
    throw BadWeight("row " + std::to_string(true_row) + ": a scale is NaN or infinite");
  std::memcpy(panel + 4 * row, &scale, 4);
  uint8_t* weights = panel + info(Scheme::I8).head_bytes;
  for (int64_t k = 0; k < cols; ++k) weights[k / 4 * 64 + row * 4 + k % 4] = from[k] ^ 0x80;
}

void pack_float_row(const FileMatrix& source, const uint8_t* from, int64_t true_row, int row,
                    uint8_t* panel) {
  const int size = info(source.scheme).file_bytes;
  for (int64_t k = 0; k < source.cols; ++k) {
    uint8_t* to = panel + (k * kPanelRows + row) * size;
    std::memcpy(to, from + k * size, size);
    bool finite;
    if (source.scheme == Scheme::F16) {
      finite = (load16(to) & 0x7c00) != 0x7c00;
    } else {
      const uint16_t top = size == 4 ? load32(to) >> 16 : load16(to);
      finite = (top & 0x7f80) != 0x7f80;
    }
    if (!finite)
      throw BadWeight("row " + std::to_string(true_row) + ", column " + std::to_string(k) +
                      ": the weight is NaN or infinite");
  }
}

using PackBlock = void (*)(const uint8_t*, const Slot&);

PackBlock packer(Scheme scheme) {
  switch (scheme) {
    case Scheme::Q4_0:
      return pack_q4_0;
    case Scheme::Q4_1:
      return pack_q4_1;
    case Scheme::Q5_0:
      return pack_q5_0;
    case Scheme::Q5_1:
      return pack_q5_1;
    case Scheme::Q8_0:
      return pack_q8_0;
    case Scheme::Q2_K:
      return pack_q2_k;
    case Scheme::Q3_K:
      return pack_q3_k;
    case Scheme::Q4_K:
      return pack_q4_k;
    case Scheme::Q5_K:
      return pack_q5_k;
    case Scheme::Q6_K:
      return pack_q6_k;
    case Scheme::IQ4_NL:
      return pack_q4_0;
    case Scheme::IQ4_XS:
      return pack_iq4_xs;
    default:
      return nullptr;
  }
}

}  // namespace

Matrix shape_panels(const FileMatrix& source) {
  const SchemeInfo& scheme = info(source.scheme);
  if (source.rows <= 0 || source.cols <= 0 || source.rows > (int64_t{1} << 31) ||
      source.cols > (int64_t{1} << 31) || source.cols % scheme.file_block)
    throw std::invalid_argument("a " + std::to_string(source.rows) + " x " +
                                std::to_string(source.cols) + " matrix cannot be " + scheme.name);
  const auto need = static_cast<size_t>(source.rows) * (source.cols / scheme.file_block) *
                    static_cast<size_t>(scheme.file_bytes);
  if (need != source.bytes)
    throw std::invalid_argument("needs " + std::to_string(need) + " bytes, got " +
                                std::to_string(source.bytes));
  if (source.scheme == Scheme::I8 && source.data && !source.scales)
    throw std::invalid_argument("I8 needs a scale for each row");
  Matrix matrix;
  matrix.scheme = source.scheme;
  matrix.rows = source.rows;
  matrix.cols = source.cols;
  matrix.num_panels = (source.rows + kPanelRows - 1) / kPanelRows;
  matrix.num_blocks = (source.cols + kBlock - 1) / kBlock;
  matrix.panel_bytes = scheme.head_bytes +
                       static_cast<size_t>(matrix.num_blocks / scheme.group) * scheme.group_bytes;
  return matrix;
}

size_t panels_bytes(const Matrix& matrix) {
  return static_cast<size_t>(matrix.num_panels) * matrix.panel_bytes;
}

void pack_panel(const FileMatrix& source, const Matrix& shape, int64_t index, uint8_t* panel) {
  const SchemeInfo& scheme = info(source.scheme);
  const int64_t file_blocks = source.cols / scheme.file_block;
  const size_t row_bytes = static_cast<size_t>(file_blocks) * scheme.file_bytes;
  const PackBlock pack = packer(source.scheme);
  for (int row = 0; row < kPanelRows; ++row) {
    const int64_t true_row = index * kPanelRows + row;
    if (true_row >= shape.rows) break;
    const int64_t stored = source.row_order ? source.row_order[true_row] : true_row;
    const uint8_t* from = source.data + static_cast<size_t>(stored) * row_bytes;
    if (source.scheme == Scheme::I8) {
      pack_i8_row(from, source.cols, source.scales[stored], true_row, row, panel);
      continue;
    }
    if (!pack) {
      pack_float_row(source, from, true_row, row, panel);
      continue;
    }
    // For the K-quants a file block is a whole group, otherwise a single block.
    for (int64_t b = 0; b < file_blocks; ++b)
      pack(from + b * scheme.file_bytes, Slot{panel + b * scheme.group_bytes, row, true_row});
  }
}

}  // namespace ff
