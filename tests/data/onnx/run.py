#!/usr/bin/env python3
"""Runs an ONNX file in a public runtime: run.py ENGINE MODEL.onnx INPUTS.npz OUTPUTS.npz, with ENGINE onnxruntime or openvino.

Arrays are named after inputs and outputs of the graph. With the package onnx, the file is checked first.
"""
import sys

import numpy as np


def onnxruntime_outputs(path, feed):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Without VNNI, the default kernels add pairs of products in 16 bits, where they saturate.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed)))


def openvino_outputs(path, feed):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = core.compile_model(core.read_model(path), "CPU", settings)
    results = model(feed)
    return {output.any_name: results[output] for output in model.outputs}


def main():
    engine, path, inputs, outputs = sys.argv[1:]
    try:
        import onnx

        onnx.checker.check_model(onnx.load(path), full_check=True)
    except ImportError:
        pass
    feed = dict(np.load(inputs))
    run = {"onnxruntime": onnxruntime_outputs, "openvino": openvino_outputs}[engine]
    np.savez(outputs, **run(path, feed))


if __name__ == "__main__":
    main()
