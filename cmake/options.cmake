# Warnings and sanitizers, as an interface target that our own targets link privately.
add_library(accrete_options INTERFACE)
target_compile_options(accrete_options INTERFACE -Wall -Wextra)
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
