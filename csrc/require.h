// The one way native code refuses its input: an exception that names what is wrong, never an abort.
#pragma once
#include <stdexcept>
#include <utility>

namespace ff {

template <class Text>
void require(bool holds, Text&& what) {
  if (!holds) throw std::invalid_argument(std::forward<Text>(what));
}

}  // namespace ff
