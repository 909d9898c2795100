# A CUDA libtorch and our CUDA kernels, with -DACCRETE_CUDA=ON.
#
# Not by find_package(Torch): with CUDA it asks for a whole toolkit (cuBLAS, cuDNN and their
# headers), where nvcc, the runtime's headers and the libtorch of a Python wheel are all that we
# need. Sets TORCH_INSTALL_PREFIX, TORCH_INCLUDE_DIRS, TORCH_LIBRARIES and TORCH_CXX_FLAGS as that would.
if(DEFINED Torch_DIR)
  get_filename_component(_torch ${Torch_DIR}/../../.. ABSOLUTE)
else()
  file(GLOB _torch ${CMAKE_CURRENT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
endif()
if(NOT EXISTS "${_torch}/lib/libtorch_cuda.so")
  message(FATAL_ERROR "no libtorch with CUDA in \"${_torch}\". Give one with "
                      "-DTorch_DIR=.../torch/share/cmake/Torch, or leave -DACCRETE_CUDA=ON away.")
endif()
find_program(ACCRETE_NVCC nvcc HINTS /usr/local/cuda/bin)
if(NOT ACCRETE_NVCC)
  message(FATAL_ERROR "nvcc was not found. Install the CUDA toolkit, or give -DACCRETE_NVCC=.../nvcc.")
endif()
# nvcc can be a script that calls another: the toolkit is where the headers are.
execute_process(COMMAND ${ACCRETE_NVCC} --dryrun -c x.cu ERROR_VARIABLE _dryrun OUTPUT_QUIET)
string(REGEX MATCH "TOP=([^\n]*)" _ "${_dryrun}")
get_filename_component(_cuda "${CMAKE_MATCH_1}" REALPATH)
find_path(ACCRETE_CUDA_INCLUDE cuda_runtime_api.h
          HINTS ${_cuda}/include ${_cuda}/targets/x86_64-linux/include REQUIRED)
find_library(ACCRETE_CUDART cudart HINTS ${_cuda}/lib64 ${_cuda}/lib REQUIRED)

set(TORCH_INSTALL_PREFIX ${_torch})
set(TORCH_INCLUDE_DIRS ${_torch}/include ${_torch}/include/torch/csrc/api/include
                       ${ACCRETE_CUDA_INCLUDE})
# What torch_cuda does is registered when it is loaded, though nothing of ours names it.
set(TORCH_LIBRARIES -Wl,--no-as-needed ${_torch}/lib/libtorch.so ${_torch}/lib/libtorch_cpu.so
                    ${_torch}/lib/libtorch_cuda.so -Wl,--as-needed ${_torch}/lib/libc10.so
                    ${_torch}/lib/libc10_cuda.so ${ACCRETE_CUDART} -Wl,--allow-shlib-undefined)
set(TORCH_CXX_FLAGS "")

set(ACCRETE_CUDA_ARCHITECTURES 80 90 CACHE STRING "Compute capabilities, without the dot")
# One object of each .cu file of the current directory that is named; the list goes to `variable`.
function(accrete_cuda_objects variable)
  set(_codes)
  foreach(_arch ${ACCRETE_CUDA_ARCHITECTURES})
    list(APPEND _codes -gencode arch=compute_${_arch},code=sm_${_arch})
  endforeach()
  list(GET ACCRETE_CUDA_ARCHITECTURES -1 _arch)  # and for those after the last
  list(APPEND _codes -gencode arch=compute_${_arch},code=compute_${_arch})
  foreach(_source ${ARGN})
    string(REPLACE / _ _name ${_source})
    set(_object ${CMAKE_CURRENT_BINARY_DIR}/${_name}.o)
    add_custom_command(OUTPUT ${_object}
      COMMAND ${ACCRETE_NVCC} -std=c++20 -O3 ${_codes} -Werror all-warnings -Xcompiler -fPIC
              -I${PROJECT_SOURCE_DIR}/src -MD -MF ${_object}.d
              -c ${CMAKE_CURRENT_SOURCE_DIR}/${_source} -o ${_object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${_source} DEPFILE ${_object}.d VERBATIM)
    list(APPEND _objects ${_object})
  endforeach()
  set(${variable} ${_objects} PARENT_SCOPE)
endfunction()
