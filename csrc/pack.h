// From the blocks of a model file to panels: a permutation, bit for bit, one panel at a time.
#pragma once
#include <stdexcept>

#include "schemes.h"

namespace ff {

// One matrix as it lies in a model file. Stored row of true row i is row_order[i], or i.
struct FileMatrix {
  Scheme scheme;
  const uint8_t* data;
  size_t bytes;
  int64_t rows, cols;
  const int32_t* row_order;       // null: stored in true order
  const float* scales = nullptr;  // I8: one a stored row
};

// A scale or weight that is NaN or infinite; the message names the row.
struct BadWeight : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The empty panel matrix for a file matrix. Throws std::invalid_argument if sizes do not agree.
Matrix shape_panels(const FileMatrix& source);

size_t panels_bytes(const Matrix& matrix);

// Writes one panel; `panel` must be zeroed. Throws BadWeight.
void pack_panel(const FileMatrix& source, const Matrix& shape, int64_t index, uint8_t* panel);

}  // namespace ff
