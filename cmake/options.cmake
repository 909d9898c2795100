# Warnings and sanitizers, as an interface target that our own targets link privately.
add_library(accrete_options INTERFACE)
target_compile_options(accrete_options INTERFACE -Wall -Wextra)
# A compiler of another version may warn of more: no reason for a user's build to fail. Nor do sanitizers, which make g++
# see uninitialised values where there are none, and another compiler for the fuzzer decide.
if("$ENV{CI}" STREQUAL "true" AND NOT ACCRETE_SANITIZE AND NOT ACCRETE_FUZZ)
  set(_werror ON)
else()
  set(_werror OFF)
endif()
option(ACCRETE_WERROR "Warnings are errors (said by CI=true)" ${_werror})
if(ACCRETE_WERROR)
  target_compile_options(accrete_options INTERFACE -Werror)
endif()
# A class of one source that holds what only that source knows is taken for one of a header where
# several sources are compiled at once.
if(ACCRETE_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(accrete_options INTERFACE -Wno-subobject-linkage)
endif()
if(ACCRETE_SANITIZE)
  foreach(_language C CXX)
    set(CMAKE_${_language}_FLAGS
        "${CMAKE_${_language}_FLAGS} -fsanitize=${ACCRETE_SANITIZE} -fno-omit-frame-pointer -g -O1")
  endforeach()
  set(CMAKE_EXE_LINKER_FLAGS "${CMAKE_EXE_LINKER_FLAGS} -fsanitize=${ACCRETE_SANITIZE}")
endif()

find_program(ACCRETE_CCACHE ccache)
if(ACCRETE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ACCRETE_CCACHE})
endif()
