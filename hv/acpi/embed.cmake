# cmake -D IN=file -D OUT=file.c -D HEADER=h -D SYMBOL=name -P embed.cmake
# Writes a C file with the bytes of IN as `const unsigned char SYMBOL[]` and their
# number as `const size_t SYMBOL_bytes`; HEADER declares both.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x..,){16})" "\\1\n\t" bytes "${bytes}")
get_filename_component(name ${IN} NAME)
file(WRITE ${OUT} "/* Generated from ${name}; do not edit. */
#include \"${HEADER}\"

const unsigned char ${SYMBOL}[] = {
	${bytes}
};
const size_t ${SYMBOL}_bytes = sizeof ${SYMBOL};
")
