// The emulator as a device of its own: a process that allocates, copies and launches as it is told on its standard input.
//
// Requests are a letter and 64-bit words, little-endian:
//   A bytes                                     -> address (memory is zeroed)
//   F address                                   -> -
//   U address bytes, the bytes                  -> -
//   D address bytes                             -> the bytes
//   L grid x y z, threads, name bytes, args bytes, the name, the args     -> -
//   S seed                                      -> -

#include "simt.h"

#include <unistd.h>

#include KERNELS

static void read_bytes(void* to, size_t count) {
    if (count && fread(to, 1, count, stdin) != count) simt::fail("a request ends early");
}

static uint64_t read_word() {
    uint64_t word;
    read_bytes(&word, 8);
    return word;
}

static std::vector<unsigned char> read_vector(size_t count) {
    std::vector<unsigned char> bytes(count);
    read_bytes(bytes.data(), count);
    return bytes;
}

int main() {
    for (int request; (request = getchar()) != EOF;) {
        switch (request) {
            case 'A': {
                const size_t bytes = read_word();
                void* memory = nullptr;
                if (posix_memalign(&memory, 256, bytes)) simt::fail("out of memory");
                memset(memory, 0, bytes);
                const uint64_t address = (uint64_t)memory;
                fwrite(&address, 8, 1, stdout);
                break;
            }
            case 'F':
                free((void*)read_word());
                break;
            case 'U': {
                void* const to = (void*)read_word();
                const auto bytes = read_vector(read_word());
                if (!bytes.empty()) memcpy(to, bytes.data(), bytes.size());
                break;
            }
            case 'D': {
                const void* const from = (const void*)read_word();
                const std::vector<unsigned char> bytes((const unsigned char*)from, (const unsigned char*)from + read_word());
                fwrite(bytes.data(), 1, bytes.size(), stdout);
                break;
            }
            case 'L': {
                simt::Dim grid;
                grid.x = read_word();
                grid.y = read_word();
                grid.z = read_word();
                const unsigned threads = read_word();
                const size_t name_bytes = read_word(), args_bytes = read_word();
                const auto name = read_vector(name_bytes), args = read_vector(args_bytes);
                simt::launch(std::string(name.begin(), name.end()), grid, threads, args);
                break;
            }
            case 'S':
                simt::seed = read_word();
                break;
            default:
                simt::fail("an unknown request");
        }
        fflush(stdout);
    }
    // Memory goes with the process.
    _exit(0);
}
