// From head maps to boxes, to the bit as `detect/decode.rs` and `detect/nms.rs` do it: a block takes a task. Candidates stand in the order in
// which the CPU finds them; whatever counts or orders them is a prefix sum or a comparison of keys of which no two are alike.

#define BOX_THREADS 512

// A box, as the host reads it.
struct Box {
    float center[3];
    float size[3];
    float yaw;
    float velocity[2];
    float score;
    u32 label;  // of the task's classes
    u32 unused;
};

// What became of a task's candidates, as the host reads it.
struct Found {
    u32 candidates;  // whose box is finite and in range
    u32 non_finite;
    u32 boxes;
    u32 contenders;  // scores that pass; then candidates that take part in suppression
};

// A head map: floats from a pixel to the next.
struct Map {
    const float* values;
    u64 row;
};

// A task, as the host writes it.
struct Head {
    Map heatmap;
    Map offset;
    Map height;
    Map size;
    Map rotation;
    Map velocity;               // null: none
    const float* thresholds;    // by class: of the score, and a bound on the logit below which no score passes
    u32* tiles;                 // scores that pass in each tile of the heat map
    u64* keys;                  // of candidates: the larger, the better. 0: none any more
    u32* places;                // cells and classes of candidates; then their boxes
    Box* boxes;                 // of candidates
    Rect* rects;                // of candidates
    Found* found;
    Box* results;
    u32 classes;
    float min_radius;           // square metres, of suppression by circles
};

struct BoxesArgs {
    const Head* heads;
    u32 width;       // of a map
    u32 cells;
    u32 top_k;       // so many candidates of a task, by class and cell; 0: each cell's best class
    u32 cosine_first;
    u32 width_first;
    u32 det3d_yaw;
    u32 circles;     // suppression by circles, else by overlap
    u32 pre;
    u32 post;
    u32 mmcv;        // which overlap, else that of iou3d
    float threshold; // of overlap
    float factor;    // cells of the grid, along an axis, of a map's cell
    float voxel[2];
    float min[2];
    float range_min[3];
    float range_max[3];
};

// What `boxes.rs` counts on.
static_assert(sizeof(Box) == 12 * 4 && sizeof(Rect) == 18 * 4 && sizeof(Found) == 4 * 4 && sizeof(Head) == 21 * 8, "sizes of shared structures");

__device__ __forceinline__ float sigmoid(float logit) { return 1.0f / (1.0f + elementary_exp(-logit)); }

// Floats in their total order.
__device__ __forceinline__ u32 ordered(float x) { return bits_of(x) ^ (bits_of(x) >> 31 ? 0xffffffffu : 0x80000000u); }

// The score of a logit, if it passes; 0 otherwise.
__device__ __forceinline__ float passing(const float* threshold, float logit) {
    if (!(logit > threshold[1])) return 0.0f;
    const float score = sigmoid(logit);
    return score > threshold[0] ? score : 0.0f;
}

// The candidate that an item of a task's heat map is, if it is one: its key, and cell and class.
__device__ __forceinline__ u64 peak(const BoxesArgs& a, const Head& head, u32 item, u32& place) {
    if (a.top_k) {
        const u32 label = item / a.cells, cell = item % a.cells;
        const float logit = head.heatmap.values[cell * head.heatmap.row + label];
        place = cell * head.classes + label;
        const float score = passing(head.thresholds + 2 * label, logit);
        return score > 0.0f ? (u64)bits_of(score) << 32 | ordered(logit) : 0;
    }
    const float* const logits = head.heatmap.values + item * head.heatmap.row;
    u32 best = head.classes;
    for (u32 label = 0; label < head.classes; label++) {
        if (!is_nan(logits[label]) && (best == head.classes || logits[label] > logits[best])) best = label;
    }
    place = item * head.classes + best;
    return best == head.classes ? 0 : (u64)bits_of(passing(head.thresholds + 2 * best, logits[best])) << 32;
}

// Keeps the `most` candidates with the largest keys under `mask`; of equal ones the first, and all in their order. They are more. All
// threads of the block.
__device__ __forceinline__ void keep_best(const Head& head, u32 count, u32 most, u64 mask, u32* sums) {
    // The largest key that at least so many reach.
    u64 least = 0;
    u32 total;
    for (u64 bit = 1ull << 63; bit > 0; bit >>= 1) {
        if (!(mask & bit)) continue;
        u32 reached = 0;
        for (u32 i = threadIdx.x; i < count; i += BOX_THREADS) reached += (head.keys[i] & mask) >= (least | bit);
        before_in_block<BOX_THREADS>(reached, sums, total);
        if (total >= most) least |= bit;
    }
    u32 above = 0;
    for (u32 i = threadIdx.x; i < count; i += BOX_THREADS) above += (head.keys[i] & mask) > least;
    before_in_block<BOX_THREADS>(above, sums, total);
    const u32 equal_wanted = most - total;
    u32 larger = 0, equal = 0;
    for (u32 first = 0; first < count; first += BOX_THREADS) {
        const u32 i = first + threadIdx.x;
        const u64 key = i < count ? head.keys[i] : 0;
        const u32 place = i < count ? head.places[i] : 0;
        const bool is_larger = i < count && (key & mask) > least, is_equal = i < count && (key & mask) == least;
        const u32 before = before_in_block<BOX_THREADS>((u32)is_larger | (u32)is_equal << 16, sums, total);
        const u32 equal_before = equal + (before >> 16), to = larger + (before & 0xffff) + min(equal_before, equal_wanted);
        // Never behind where it was, and everything there was read before the sum.
        if (is_larger || (is_equal && equal_before < equal_wanted)) {
            head.keys[to] = key;
            head.places[to] = place;
        }
        larger += total & 0xffff;
        equal += total >> 16;
    }
    __syncthreads();
}

__device__ __forceinline__ float along(float index, float offset, float factor, float voxel, float min) {
    return (index + offset) * factor * voxel + min;
}

// The box that a cell regresses. Its yaw is not wrapped.
__device__ __forceinline__ Box box_at(const BoxesArgs& a, const Head& head, u32 cell) {
    const float* const offset = head.offset.values + cell * head.offset.row;
    const float* const size = head.size.values + cell * head.size.row;
    const float* const rotation = head.rotation.values + cell * head.rotation.row;
    Box box;
    box.center[0] = along((float)(cell % a.width), offset[0], a.factor, a.voxel[0], a.min[0]);
    box.center[1] = along((float)(cell / a.width), offset[1], a.factor, a.voxel[1], a.min[1]);
    box.center[2] = head.height.values[cell * head.height.row];
    const float first = elementary_exp(size[0]), second = elementary_exp(size[1]);
    box.size[0] = a.width_first ? second : first;
    box.size[1] = a.width_first ? first : second;
    box.size[2] = elementary_exp(size[2]);
    const float sine = rotation[a.cosine_first ? 1 : 0], cosine = rotation[a.cosine_first ? 0 : 1];
    const float yaw = elementary_atan2(sine, cosine);
    box.yaw = a.det3d_yaw ? -yaw - 1.57079637050628662109f : yaw;
    const float* const velocity = head.velocity.values + cell * head.velocity.row;
    box.velocity[0] = head.velocity.values ? velocity[0] : 0.0f;
    box.velocity[1] = head.velocity.values ? velocity[1] : 0.0f;
    box.unused = 0;
    return box;
}

__device__ __forceinline__ bool is_finite_box(const Box& b) {
    bool finite = is_finite(b.yaw) && is_finite(b.velocity[0]) && is_finite(b.velocity[1]);
    for (int i = 0; i < 3; i++) finite = finite && is_finite(b.center[i]) && is_finite(b.size[i]);
    return finite;
}

__device__ __forceinline__ bool is_in_range(const BoxesArgs& a, const Box& b) {
    bool within = true;
    for (int i = 0; i < 3; i++) within = within && b.center[i] >= a.range_min[i] && b.center[i] <= a.range_max[i];
    return within;
}

__device__ __forceinline__ u32 items_of(const BoxesArgs& a, const Head& head) { return a.top_k ? a.cells * head.classes : a.cells; }

// How many scores of each tile of a heat map pass. A block takes a tile, a row of blocks a task.
KERNEL(peaks_count, BoxesArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    const Head& head = a.heads[blockIdx.y];
    const u32 first = blockIdx.x * TILE + threadIdx.x * (TILE / THREADS), items = items_of(a, head);
    u32 own = 0, total, place;
    for (u32 i = first; i < min(first + TILE / THREADS, items); i++) own += peak(a, head, i, place) != 0;
    before_in_block<THREADS>(own, (u32*)sums, total);
    if (threadIdx.x == 0) head.tiles[blockIdx.x] = total;
}

// Those that pass, in order.
KERNEL(peaks_place, BoxesArgs, THREADS) {
    SHARED(sums, THREADS / 32 * 4);
    const Head& head = a.heads[blockIdx.y];
    const u32 first = blockIdx.x * TILE + threadIdx.x * (TILE / THREADS), items = items_of(a, head);
    u32 own = 0, total, in_tile, place;
    u32 to = before_in_tiles<THREADS>(head.tiles, blockIdx.x, gridDim.x, (u32*)sums, total);
    for (u32 i = first; i < min(first + TILE / THREADS, items); i++) own += peak(a, head, i, place) != 0;
    to += before_in_block<THREADS>(own, (u32*)sums, in_tile);
    for (u32 i = first; own > 0 && i < min(first + TILE / THREADS, items); i++) {
        const u64 key = peak(a, head, i, place);
        if (!key) continue;
        head.keys[to] = key;
        head.places[to++] = place;
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) head.found->contenders = total;
}

// Candidates and their rectangles.
KERNEL(find_candidates, BoxesArgs, BOX_THREADS) {
    SHARED(shared, BOX_THREADS / 32 * 4);
    u32* const sums = (u32*)shared;
    const Head& head = a.heads[blockIdx.x];
    const u32 t = threadIdx.x;
    u32 total, peaks = head.found->contenders;
    if (a.top_k && peaks > a.top_k) {
        keep_best(head, peaks, a.top_k, 0xffffffffull, sums);  // by logit
        peaks = a.top_k;
    }

    // Their boxes. Scores are compared next, and of equal scores logits.
    u32 count = 0, non_finite = 0;
    for (u32 first = 0; first < peaks; first += BOX_THREADS) {
        const u32 i = first + t;
        u64 key = 0;
        Box box;
        bool is_odd = false, is_good = false;
        if (i < peaks) {
            key = head.keys[i];
            box = box_at(a, head, head.places[i] / head.classes);
            box.score = float_of((u32)(key >> 32));
            box.label = head.places[i] % head.classes;
            is_odd = !is_finite_box(box);
            is_good = !is_odd && is_in_range(a, box);
        }
        const u32 before = before_in_block<BOX_THREADS>((u32)is_good | (u32)is_odd << 16, sums, total);
        if (is_good) {
            const u32 to = count + (before & 0xffff);
            head.keys[to] = key;
            head.places[to] = to;
            head.boxes[to] = box;
        }
        count += total & 0xffff;
        non_finite += total >> 16;
    }
    __syncthreads();
    const u32 contenders = a.circles ? count : min(count, a.pre);
    if (contenders < count) keep_best(head, count, contenders, ~0ull, sums);
    for (u32 i = t; i < contenders; i += BOX_THREADS) {
        const Box& box = head.boxes[head.places[i]];
        head.rects[i] = prepare(a.mmcv, {box.center[0], box.center[1]}, box.size[0], box.size[1], box.yaw);
    }
    if (t == 0) {
        head.found->candidates = count;
        head.found->non_finite = non_finite;
        head.found->contenders = contenders;
    }
}

// The best that is left stays and takes others with it, again and again. Each thread has its own candidates.
template <typename Goes>
__device__ __forceinline__ void suppress(const BoxesArgs& a, Best* shared, const Goes& goes) {
    const Head& head = a.heads[blockIdx.x];
    const u32 contenders = head.found->contenders;
    Best best = {0, 0};
    for (u32 i = threadIdx.x; i < contenders; i += BOX_THREADS) best = better(best, {head.keys[i], i});
    u32 kept = 0;
    for (;;) {
        const Best winner = best_in_block<BOX_THREADS>(best, shared);
        if (winner.key == 0 || kept == a.post) break;
        if (threadIdx.x == 0) head.results[kept] = head.boxes[head.places[winner.at]];
        kept++;
        best = {0, 0};
        for (u32 i = threadIdx.x; i < contenders; i += BOX_THREADS) {
            const u64 key = head.keys[i];
            if (key == 0) continue;
            if (i == winner.at || goes(head, winner.at, i)) {
                head.keys[i] = 0;
            } else {
                best = better(best, {key, i});
            }
        }
    }
    if (threadIdx.x == 0) head.found->boxes = kept;
}

KERNEL(suppress_near, BoxesArgs, BOX_THREADS) {
    SHARED(shared, BOX_THREADS / 32 * sizeof(Best));
    suppress(a, (Best*)shared, [](const Head& head, u32 kept, u32 other) {
        return squared_distance(head.rects[kept].circle, head.rects[other].circle) <= head.min_radius;
    });
}

KERNEL(suppress_iou3d, BoxesArgs, BOX_THREADS) {
    SHARED(shared, BOX_THREADS / 32 * sizeof(Best));
    const float threshold = a.threshold;
    suppress(a, (Best*)shared, [threshold](const Head& head, u32 kept, u32 other) {
        const Rect &winner = head.rects[kept], &loser = head.rects[other];
        return (are_apart(winner, loser) ? 0.0f : iou3d(winner, loser)) > threshold;
    });
}

KERNEL(suppress_mmcv, BoxesArgs, BOX_THREADS) {
    SHARED(shared, BOX_THREADS / 32 * sizeof(Best));
    const float threshold = a.threshold;
    suppress(a, (Best*)shared, [threshold](const Head& head, u32 kept, u32 other) {
        const Rect &winner = head.rects[kept], &loser = head.rects[other];
        return (are_apart(winner, loser) ? 0.0f : mmcv_iou(winner, loser)) >= threshold;
    });
}
