// Everything between convolutions: bytes and floats that change form, pillars to their cells, sums, borders, and what is known
// without computing.

// An image of bytes: where its first pixel is, and the way from there.
struct Image {
    u32 at;
    u32 row;
    u32 pixel;
};

__device__ __forceinline__ u32 pixel_at(const Image& image, u32 y, u32 x) { return image.at + y * image.row + x * image.pixel; }

struct PadArgs {
    u8* image;
    u32 height;  // with its border
    u32 width;
    u32 border;
    u32 pixel;  // bytes, a multiple of 16
    u32 zero;
};

// Fills the border: rows above and below, then what is left and right of the others.
KERNEL(pad, PadArgs, THREADS) {
    const u32 chunks = a.pixel / 16, ends = 2 * a.border * a.width, word = a.zero * 0x01010101u;
    EACH(i, (ends + 2 * a.border * (a.height - 2 * a.border)) * chunks) {
        const u32 p = i / chunks;
        u32 y, x;
        if (p < ends) {
            y = p / a.width;
            x = p % a.width;
            if (y >= a.border) y += a.height - 2 * a.border;
        } else {
            y = a.border + (p - ends) / (2 * a.border);
            x = (p - ends) % (2 * a.border);
            if (x >= a.border) x += a.width - 2 * a.border;
        }
        *(uint4*)(a.image + (y * a.width + x) * a.pixel + i % chunks * 16) = make_uint4(word, word, word, word);
    }
}

struct CellsArgs {
    u8* image;
    u8* seen;          // by cell
    const u32* cells;  // y * width + x
    const u32* count;
    const float* features;  // of scatter
    u32 width;
    Image to;
    u32 channels;  // bytes that are written at a cell
    u32 features_row;
    u32 features_first;
    float inverse;
    Clamp clamp;
};

// Forgets the cells of the frame before.
KERNEL(clear_cells, CellsArgs, THREADS) {
    EACH(i, *a.count * a.channels) {
        const u32 cell = a.cells[i / a.channels];
        a.image[pixel_at(a.to, cell / a.width, cell % a.width) + i % a.channels] = (u8)a.clamp.zero;
        if (i % a.channels == 0) a.seen[cell] = 0;
    }
}

// Rounds pillars onto their grid, at their cells.
KERNEL(scatter, CellsArgs, THREADS) {
    EACH(i, *a.count * a.channels) {
        const u32 cell = a.cells[i / a.channels], c = i % a.channels;
        const float x = a.features[i / a.channels * a.features_row + a.features_first + c];
        a.image[pixel_at(a.to, cell / a.width, cell % a.width) + c] = clamped_byte(a.clamp, __fmul_rn(x, a.inverse));
        if (c == 0) a.seen[cell] = 1;
    }
}

struct FormArgs {
    u8* image;
    float* floats;
    u32 height;
    u32 width;
    Image bytes;
    u32 channels;
    u32 floats_row;  // floats of a pixel, and the first that is meant
    u32 floats_first;
    float factor;
    Clamp clamp;
};

KERNEL(quantize, FormArgs, THREADS) {
    EACH(i, a.height * a.width * a.channels) {
        const u32 p = i / a.channels, c = i % a.channels;
        const float x = a.floats[p * a.floats_row + a.floats_first + c];
        a.image[pixel_at(a.bytes, p / a.width, p % a.width) + c] = clamped_byte(a.clamp, __fmul_rn(x, a.factor));
    }
}

KERNEL(dequantize, FormArgs, THREADS) {
    EACH(i, a.height * a.width * a.channels) {
        const u32 p = i / a.channels, c = i % a.channels;
        const i32 byte = a.image[pixel_at(a.bytes, p / a.width, p % a.width) + c];
        a.floats[p * a.floats_row + a.floats_first + c] = __fmul_rn((float)(byte - a.clamp.zero), a.factor);
    }
}

struct AddArgs {
    const u8* a;
    const u8* b;
    u8* to;
    const u8* a_seen;
    const u8* b_seen;
    u8* to_seen;
    u32 height;
    u32 width;
    u32 channels;
    Image a_image;
    Image b_image;
    Image to_image;
    i32 a_zero;
    i32 b_zero;
    float a_factor;
    float b_factor;
    Clamp clamp;
    u32 opens;  // whether this is the first to write into its output
};

KERNEL(add, AddArgs, THREADS) {
    EACH(i, a.height * a.width * a.channels) {
        const u32 p = i / a.channels, c = i % a.channels, y = p / a.width, x = p % a.width;
        const float first = (float)((i32)a.a[pixel_at(a.a_image, y, x) + c] - a.a_zero);
        const float second = (float)((i32)a.b[pixel_at(a.b_image, y, x) + c] - a.b_zero);
        const float sum = __fmaf_rn(first, a.a_factor, __fmul_rn(second, a.b_factor));
        a.to[pixel_at(a.to_image, y, x) + c] = clamped_byte(a.clamp, sum);
        if (c == 0) a.to_seen[p] = (a.opens ? 0 : a.to_seen[p]) | a.a_seen[p] | a.b_seen[p];
    }
}

struct ActivateArgs {
    const u8* seen;  // by pixel of the input
    u8* active;      // by window
    u32* list;       // windows that see something
    u32* list_len;   // 0 before
    u8* to_seen;     // by pixel of the output; null: nobody asks
    u32 height;
    u32 width;
    u32 windows_y;
    u32 windows_x;
    u32 taps;
    u32 stride;
    u32 padding;
    u32 scale;  // output pixels of a window along an axis
    u32 opens;
};

// Which windows see a pixel that something was at.
KERNEL(activate, ActivateArgs, THREADS) {
    const u32 windows = a.windows_y * a.windows_x, lane = threadIdx.x % 32;
    // Whole warps stay together: the list grows by a warp at a time.
    for (u32 first = blockIdx.x * THREADS + threadIdx.x - lane; first < windows; first += gridDim.x * THREADS) {
        const u32 w = first + lane, y = w / a.windows_x, x = w % a.windows_x;
        u8 active = 0;
        if (w < windows) {
            const i32 top = (i32)(y * a.stride) - (i32)a.padding, left = (i32)(x * a.stride) - (i32)a.padding;
            for (i32 iy = max(top, 0); iy < min(top + (i32)a.taps, (i32)a.height); iy++) {
                for (i32 ix = max(left, 0); ix < min(left + (i32)a.taps, (i32)a.width); ix++) active |= a.seen[iy * a.width + ix];
            }
            a.active[w] = active;
            if (a.to_seen) {
                for (u32 s = 0; s < a.scale * a.scale; s++) {
                    u8* const to = a.to_seen + (y * a.scale + s / a.scale) * a.windows_x * a.scale + x * a.scale + s % a.scale;
                    *to = a.opens ? active : *to | active;
                }
            }
        }
        const u32 votes = __ballot_sync(0xffffffffu, active != 0);
        u32 base = 0;
        if (lane == 0) base = atomicAdd(a.list_len, __popc(votes));
        base = __shfl_sync(0xffffffffu, base, 0);
        if (active) a.list[base + __popc(votes & ((1u << lane) - 1))] = w;
    }
}

struct FillArgs {
    const u8* active;   // by window
    const u8* table;    // [distinct row][distinct column][bytes of a pixel]
    const u32* rows;    // by output row: its distinct row
    const u32* columns;
    u8* output;
    u32 windows_y;
    u32 windows_x;
    u32 scale;
    u32 distinct_columns;
    Image to;       // in bytes, also where it holds floats
    u32 bytes;      // of a pixel that are written
};

// What an empty canvas yields, where windows see nothing. A warp takes a pixel.
KERNEL(fill, FillArgs, THREADS) {
    const u32 width = a.windows_x * a.scale, pixels = a.windows_y * a.scale * width;
    for (u32 p = (blockIdx.x * THREADS + threadIdx.x) / 32; p < pixels; p += gridDim.x * (THREADS / 32)) {
        const u32 y = p / width, x = p % width;
        if (a.active[y / a.scale * a.windows_x + x / a.scale]) continue;
        const u8* const from = a.table + (u64)(a.rows[y] * a.distinct_columns + a.columns[x]) * a.bytes;
        u8* const to = a.output + pixel_at(a.to, y, x);
        for (u32 i = threadIdx.x % 32; i < a.bytes; i += 32) to[i] = from[i];
    }
}

struct CountEndsArgs {
    const u8* image;
    const u8* seen;  // by pixel: whether it counts; null: all do
    u32* counts;     // bytes at an end of their range, and all bytes
    u32 height;
    u32 width;
    Image at;
    u32 channels;
    u32 low;
    u32 high;
};

// How many bytes stand at the ends of their range.
KERNEL(count_ends, CountEndsArgs, THREADS) {
    u32 ends = 0, of = 0;
    EACH(i, a.height * a.width * a.channels) {
        const u32 p = i / a.channels;
        if (a.seen && !a.seen[p]) continue;
        const u32 byte = a.image[pixel_at(a.at, p / a.width, p % a.width) + i % a.channels];
        ends += byte == a.low || byte == a.high;
        of++;
    }
    if (ends) atomicAdd(a.counts, ends);
    if (of) atomicAdd(a.counts + 1, of);
}

struct ZeroArgs {
    u32* words;
    u32 count;
};

KERNEL(zero, ZeroArgs, THREADS) {
    EACH(i, a.count) a.words[i] = 0;
}
