# Fails when a binary has symbols that it must not have, or lacks some that it must have.
#
#   cmake -DNM=nm -DCHECK=kernels  -DFILES=a.o;b.o -P check_symbols.cmake
#   cmake -DNM=nm -DCHECK=unique   -DFILES=libhip_attn.a -P check_symbols.cmake
#   cmake -DNM=nm -DCHECK=exported -DFILES=libhip_attn.so -DHEADERS=include -P check_symbols.cmake

cmake_minimum_required(VERSION 3.25)

# Sets `result` to the lines that nm prints for `file` with the options after it.
function(list_symbols result file)
  execute_process(
    COMMAND ${NM} ${ARGN} ${file}
    OUTPUT_VARIABLE symbols
    COMMAND_ERROR_IS_FATAL ANY
  )
  string(REGEX REPLACE "[][;]" "_" symbols "${symbols}")
  string(REPLACE "\n" ";" symbols "${symbols}")
  list(FILTER symbols INCLUDE REGEX " [A-Za-z] ")
  if(NOT symbols)
    message(FATAL_ERROR "${NM} lists no symbol of ${file}")
  endif()
  set(${result} "${symbols}" PARENT_SCOPE)
endfunction()

function(fail_for file what symbols)
  if(symbols)
    list(REMOVE_DUPLICATES symbols)
    list(JOIN symbols "\n  " lines)
    message(SEND_ERROR "${file} ${what}\n  ${lines}")
  endif()
endfunction()

# An object of one instruction set gives the linker the tables of kernels and nothing to choose from,
# and takes nothing of C++ from elsewhere.
function(check_kernels file)
  list_symbols(symbols ${file})
  list(FILTER symbols INCLUDE REGEX " [A-TV-Zu] | U _Z")
  list(FILTER symbols EXCLUDE REGEX " [DR] _ZN8hip_attn3cpu[0-9]+[a-z0-9_]+kKernelsE$")
  fail_for(${file} "has symbols besides its tables" "${symbols}")
endfunction()

# The loader never unloads what defines a unique symbol.
function(check_unique file)
  list_symbols(symbols ${file})
  list(FILTER symbols INCLUDE REGEX " u ")
  fail_for(${file} "has unique symbols" "${symbols}")
endfunction()

# Sets `result` to the names of the functions that headers of that extension mark with HIP_ATTN_API.
function(list_declared result extension)
  file(GLOB_RECURSE headers ${HEADERS}/*.${extension})
  list(FILTER headers EXCLUDE REGEX "/export.h(pp)?$")
  set(names "")
  foreach(header IN LISTS headers)
    file(READ ${header} text)
    string(REGEX MATCHALL "HIP_ATTN_API [^(;]*\\(" declarations "${text}")
    foreach(declaration IN LISTS declarations)
      string(REGEX MATCH "([a-z0-9_]+)(<T>)?\\($" name "${declaration}")
      list(APPEND names ${CMAKE_MATCH_1})
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES names)
  set(${result} "${names}" PARENT_SCOPE)
endfunction()

# A shared library exports what its headers declare for that, and nothing else: what it is made of
# must not meet another copy in one process. Each has a version, and those of the C interface one of
# their own.
function(check_exported file)
  list_symbols(symbols ${file} --defined-only --dynamic --demangle)
  list_declared(declared hpp)
  list_declared(declared_c h)
  set(missing ${declared} ${declared_c})
  set(others "")
  foreach(symbol IN LISTS symbols)
    # The version itself.
    if(symbol MATCHES " A HIP_ATTN_(C|CXX)_[0-9.]+$")
      continue()
    endif()
    # The name of a function, without the type of what it returns and template arguments.
    if(
      symbol MATCHES " T (hip_attn_[a-z0-9_]+)@@HIP_ATTN_C_[0-9.]+$"
      AND CMAKE_MATCH_1 IN_LIST declared_c
    )
      list(REMOVE_ITEM missing ${CMAKE_MATCH_1})
    elseif(
      symbol MATCHES " [TW] .*hip_attn::((presets|cpu|detail|[A-Z][A-Za-z]*)::)?([a-z0-9_]+)(<[^(]*>)?\\("
      AND CMAKE_MATCH_3 IN_LIST declared
    )
      list(REMOVE_ITEM missing ${CMAKE_MATCH_3})
    else()
      list(APPEND others "${symbol}")
    endif()
  endforeach()
  fail_for(${file} "exports what no header marks with HIP_ATTN_API" "${others}")
  fail_for(${file} "does not export" "${missing}")
endfunction()

foreach(file IN LISTS FILES)
  cmake_language(CALL check_${CHECK} ${file})
endforeach()
