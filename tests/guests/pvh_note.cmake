# Fails unless ELF has a PVH entry: a note of owner "Xen" and type 18 whose 8-byte value is inside a
# loaded, executable segment, and nothing is loaded below 1 MiB.

execute_process(COMMAND ${READELF} -nlW ${ELF} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
if(NOT text MATCHES "Xen +0x00000008[^\n]*0x00000012\\)[^\n]*: (..) (..) (..) (..) 00 00 00 00")
  message(FATAL_ERROR "${ELF}: no PVH note (owner Xen, type 18, 8 bytes)\n${text}")
endif()
math(EXPR entry "0x${CMAKE_MATCH_4}${CMAKE_MATCH_3}${CMAKE_MATCH_2}${CMAKE_MATCH_1}")

set(found FALSE)
string(REGEX MATCHALL "LOAD [^\n]*" loads "${text}")
foreach(load IN LISTS loads)
  string(REGEX MATCH "LOAD +0x[0-9a-f]+ 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+) +(R?) ?(W?) ?(E?)"
    m "${load}")
  math(EXPR start "0x${CMAKE_MATCH_2}")
  math(EXPR end "0x${CMAKE_MATCH_2} + 0x${CMAKE_MATCH_3}")
  if(start LESS 1048576)
    message(FATAL_ERROR "${ELF}: loads at ${start}, below 1 MiB")
  endif()
  if(load MATCHES "R E" AND NOT entry LESS start AND entry LESS end)
    set(found TRUE)
  endif()
endforeach()
if(NOT found)
  message(FATAL_ERROR "${ELF}: the PVH entry ${entry} is in no executable segment\n${text}")
endif()
