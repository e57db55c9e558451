#!/usr/bin/env python3
"""Times CenterPoint-Pillar's 2D network (the one of network/mod.rs, random weights) in other engines on the CPU.

Called by `cargo bench --bench float_network -- --peer` and `--bench int8_network -- --peer`. Needs numpy, onnx, onnxruntime, and
openvino for its row. INT8 is ONNX Runtime's own static quantization (QDQ, per channel, u8 activations); OpenVINO reads the same file.
"""
import argparse
import os
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

GRID, PILLARS = 512, 12_000
RANDOM = np.random.default_rng(1)


class Network:
    def __init__(self):
        self.nodes, self.weights = [], []

    def layer(self, kind, source, name, inputs, outputs, kernel, stride, relu=True):
        shape = (inputs, outputs) if kind == "ConvTranspose" else (outputs, inputs)
        weight = RANDOM.standard_normal(shape + (kernel, kernel)) * (2 / (inputs * kernel * kernel)) ** 0.5
        bias = RANDOM.standard_normal(outputs) * 0.02
        self.weights += [numpy_helper.from_array(v.astype(np.float32), f"{name}.{part}") for v, part in [(weight, "weight"), (bias, "bias")]]
        padding = 1 if kernel == 3 else 0
        raw = f"{name}.raw" if relu else name
        self.nodes.append(helper.make_node(
            kind, [source, f"{name}.weight", f"{name}.bias"], [raw], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4))
        if relu:
            self.nodes.append(helper.make_node("Relu", [raw], [name]))
        return name


def model():
    net, x, channels, ups = Network(), "canvas", 64, []
    for i, (width, repeats) in enumerate([(64, 3), (128, 5), (256, 5)]):
        x = net.layer("Conv", x, f"block{i}.0", channels, width, 3, 2)
        for j in range(repeats):
            x = net.layer("Conv", x, f"block{i}.{j + 1}", width, width, 3, 1)
        kind, kernel = [("Conv", 2), ("Conv", 1), ("ConvTranspose", 2)][i]
        ups.append(net.layer(kind, x, f"up{i}", width, 128, kernel, kernel))
        channels = width
    net.nodes.append(helper.make_node("Concat", ups, ["concat"], axis=1))
    shared, outputs = net.layer("Conv", "concat", "shared", 384, 64, 3, 1), []
    for task, classes in enumerate([1, 2, 2, 1, 2, 2]):
        for branch, width in [("hm", classes), ("reg", 2), ("height", 1), ("dim", 3), ("rot", 2), ("vel", 2)]:
            y = net.layer("Conv", shared, f"task{task}.{branch}.0", 64, 64, 3, 1)
            y = net.layer("Conv", y, f"task{task}.{branch}.1", 64, width, 3, 1, relu=False)
            outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, width, GRID // 4, GRID // 4]))
    source = helper.make_tensor_value_info("canvas", TensorProto.FLOAT, [1, 64, GRID, GRID])
    graph = helper.make_graph(net.nodes, "network", [source], outputs, net.weights)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    built.ir_version = 9
    onnx.checker.check_model(built)
    return built


def canvas():
    image = np.zeros((1, 64, GRID, GRID), np.float32)
    radius, angle = np.abs(RANDOM.standard_normal(4 * PILLARS)) * 90, RANDOM.uniform(0, 2 * np.pi, 4 * PILLARS)
    cells = (GRID / 2 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1)).astype(int)
    cells = np.unique(cells[((cells >= 0) & (cells < GRID)).all(1)], axis=0)
    cells = RANDOM.permutation(cells)[:PILLARS]
    image[0, :, cells[:, 0], cells[:, 1]] = np.maximum(RANDOM.standard_normal((len(cells), 64)), 0)
    return image


def quantized(folder, plain):
    path = os.path.join(folder, "network.int8.onnx")
    if not os.path.exists(path):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Frames(CalibrationDataReader):
            frames = iter([{"canvas": canvas()}])

            def get_next(self):
                return next(self.frames, None)

        quantize_static(plain, path, Frames(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return path


def runner(engine, path, threads):
    if engine.startswith("ort"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Waiting threads must not count as CPU time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return f"ONNX Runtime {onnxruntime.__version__}", lambda feed: session.run(None, feed)
    import openvino
    core = openvino.Core()
    hint = "bf16" if engine.endswith("bf16") else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    return f"OpenVINO {openvino.__version__.split('-')[0]}", request.infer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--engines", default="ort-fp32", help="of ort-fp32, ort-int8, ov-int8, ov-bf16, ov-fp32")
    parser.add_argument("--folder", default=".", help="where the networks are kept")
    args = parser.parse_args()
    plain = os.path.join(args.folder, "network.onnx")
    if not os.path.exists(plain):
        onnx.save(model(), plain)
    feed = {"canvas": canvas()}
    for engine in args.engines.split(","):
        precision = engine.split("-")[1]
        name, run = runner(engine, quantized(args.folder, plain) if precision == "int8" else plain, args.threads)
        for _ in range(2):
            run(feed)
        times, cpu = [], time.process_time()
        for _ in range(args.runs):
            start = time.perf_counter()
            run(feed)
            times.append((time.perf_counter() - start) * 1e3)
        cpu = (time.process_time() - cpu) * 1e3 / args.runs
        times.sort()
        print(f"{f'{name} {precision.upper()}':40} {times[len(times) // 2]:8.1f} ({times[0]:.1f}) ms   CPU {cpu:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
