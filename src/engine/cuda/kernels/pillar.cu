// The pillar network's float layers, in the order of operations in which the CPU has them: a sum starts at its bias and goes through
// the channels in order, one fused multiply-add each, so that the first integers are the same.

struct LinearArgs {
    const float* input;  // [rows][inputs]
    const float* weights;  // [inputs][outputs]
    const float* bias;     // null: none
    float* output;         // [rows][outputs]
    const u32* rows;
    u32 inputs;
    u32 outputs;
    u32 relu;
};

KERNEL(linear, LinearArgs, THREADS) {
    EACH(i, *a.rows * a.outputs) {
        const u32 row = i / a.outputs, o = i % a.outputs;
        float sum = a.bias ? a.bias[o] : 0.0f;
        const float* const input = a.input + (u64)row * a.inputs;
        for (u32 c = 0; c < a.inputs; c++) sum = __fmaf_rn(input[c], a.weights[c * a.outputs + o], sum);
        a.output[(u64)row * a.outputs + o] = a.relu && sum < 0.0f ? 0.0f : sum;
    }
}

struct PillarArgs {
    const float* rows;    // [rows][channels]
    const float* beside;  // of a concatenation, [pillars][beside_channels]
    float* output;
    u32* winners;        // of maxima, the first row that has it; null: not asked for
    const u32* offsets;  // rows offsets[p]..offsets[p + 1] are those of pillar p
    const u32* pillars;
    u32 channels;
    u32 beside_channels;
};

// The greatest value of each channel in a pillar.
KERNEL(pillar_max, PillarArgs, THREADS) {
    EACH(i, *a.pillars * a.channels) {
        const u32 p = i / a.channels, c = i % a.channels;
        u32 winner = a.offsets[p];
        float best = a.rows[(u64)winner * a.channels + c];
        for (u32 row = winner + 1; row < a.offsets[p + 1]; row++) {
            const float x = a.rows[(u64)row * a.channels + c];
            if (x > best) {
                best = x;
                winner = row;
            }
        }
        a.output[i] = best;
        if (a.winners) a.winners[i] = winner;
    }
}

// Each row, followed by its pillar's values.
KERNEL(pillar_concat, PillarArgs, THREADS) {
    const u32 width = a.channels + a.beside_channels;
    EACH(i, *a.pillars * width) {
        const u32 p = i / width, c = i % width;
        for (u32 row = a.offsets[p]; row < a.offsets[p + 1]; row++) {
            a.output[(u64)row * width + c] =
                c < a.channels ? a.rows[(u64)row * a.channels + c] : a.beside[(u64)p * a.beside_channels + c - a.channels];
        }
    }
}
