# The viewer's page becomes a part of the program: its bytes as an array, in view_template.cpp of the
# build folder.
set(page ${PROJECT_SOURCE_DIR}/../../python/hip_attn/viewer.html)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page})
file(READ ${page} page_bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," page_bytes "${page_bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n"
  page_bytes "${page_bytes}")
set(view_template ${PROJECT_BINARY_DIR}/view_template.cpp)
file(CONFIGURE OUTPUT ${view_template} @ONLY CONTENT [[
#include "view_file.hpp"

namespace llama {

std::string view_template() {
  static constexpr unsigned char kPage[] = {
@page_bytes@
  };
  return {reinterpret_cast<const char*>(kPage), sizeof(kPage)};
}

}  // namespace llama
]])
