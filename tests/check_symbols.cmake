# Fails when a binary has symbols that it must not have.
#
#   cmake -DNM=nm -DCHECK=weak     -DFILES=a.o;b.o      -P check_symbols.cmake
#   cmake -DNM=nm -DCHECK=exported -DFILES=libhip_attn.so -P check_symbols.cmake

if(CHECK STREQUAL weak)
  # An inline function compiled for one instruction set must not be there for the linker to choose.
  set(nm_options --defined-only)
  set(forbidden "^[0-9a-f]* [WVu] ")
elseif(CHECK STREQUAL exported)
  # What the library is made of must not meet another copy of it in one process.
  set(nm_options --defined-only --dynamic --demangle)
  set(forbidden "fmt::|nlohmann::|hip_attn::(detail|cuda)::| cuda[A-Z]")
else()
  message(FATAL_ERROR "CHECK is \"${CHECK}\"; it takes weak or exported")
endif()

foreach(file IN LISTS FILES)
  execute_process(
    COMMAND ${NM} ${nm_options} ${file}
    OUTPUT_VARIABLE symbols
    COMMAND_ERROR_IS_FATAL ANY
  )
  string(REGEX REPLACE "[][;]" "_" symbols "${symbols}")
  string(REPLACE "\n" ";" symbols "${symbols}")
  list(FILTER symbols INCLUDE REGEX "${forbidden}")
  if(symbols)
    list(JOIN symbols "\n  " symbols)
    message(SEND_ERROR "${file} has\n  ${symbols}")
  endif()
endforeach()
