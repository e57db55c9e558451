"""Writes the checkpoints of this folder. Made with Python 3.11, PyTorch 2.15.0 and numpy 2.4.6.

Values follow closed forms that the tests repeat: element i of tensor `ramp` is i / 8, exact in every float type.
"""

import argparse
import collections
import datetime
import io
import os
import pickle
import struct
import subprocess

import numpy
import torch


def ramp(*shape, dtype=torch.float32, start=0):
    count = int(numpy.prod(shape))
    return ((torch.arange(count, dtype=torch.float64) + start) / 8).reshape(shape).to(dtype)


def dtypes():
    """One tensor of each type, keys of DistributedDataParallel, and a meta entry as training programs write it."""
    state = collections.OrderedDict()
    for name in ["float32", "float16", "bfloat16", "float64"]:
        state[f"module.{name}"] = ramp(2, 3, dtype=getattr(torch, name))
    for name in ["int64", "int32", "uint8", "bool"]:
        state[f"module.{name}"] = torch.ones(2, dtype=getattr(torch, name))
    meta = {
        "args": argparse.Namespace(lr=0.1, work_dir="x"),
        "time": datetime.datetime(2020, 1, 2),
        "loss": numpy.float64(0.5),
        "history": numpy.arange(3, dtype=numpy.float32),
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "set": {1, 2},
    }
    return {"meta": meta, "epoch": 3, "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}


def views():
    """Tensors that are not the whole of their storage in order, and a parameter."""
    base = ramp(4, 6)
    state = collections.OrderedDict()
    state["base"] = base
    state["transposed"] = base.t()
    state["columns"] = base[1:3, ::2]
    state["offset"] = base[2]
    state["expanded"] = ramp(3, 1).expand(3, 2)
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 4)
    state["parameter"] = torch.nn.Parameter(ramp(2, 2))
    state._metadata = {"": {"version": 1}}
    return {"model_state": state, "it": 7}


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def legacy_view():
    """A view of a storage as files before PyTorch 0.4 hold it: the persistent id names the root and the view in it."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, "root", "cpu", 6, ("view", 2, 3))
            return None

    class Rebuild:
        def __reduce__(self):
            return torch._utils._rebuild_tensor, (Storage(), 1, (2,), (1,))

    out = io.BytesIO()
    for value in [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}]:
        pickle.dump(value, out, protocol=2)
    Pickler(out, protocol=2).dump({"state_dict": {"w": Rebuild()}})
    pickle.dump(["root"], out, protocol=2)
    out.write(struct.pack("<q6f", 6, *[i / 8 for i in range(6)]))
    return out.getvalue()


torch.save(dtypes(), "dtypes.pth")
torch.save(dtypes(), "dtypes_legacy.pth", _use_new_zipfile_serialization=False)
torch.save(views(), "views.pth")
torch.save(views(), "views_legacy.pth", _use_new_zipfile_serialization=False)
for protocol in [1, 3, 4, 5]:
    torch.save({"model": {"w": ramp(2)}}, f"protocol{protocol}.pth", pickle_protocol=protocol)
torch.save(torch.nn.Linear(2, 1), "whole_module.pth")
torch.save({"epoch": 1}, "no_tensors.pth")
torch.save({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "quantized_tensor.pth")
open("legacy_view.pth", "wb").write(legacy_view())
for name, attack in {
    "attack_system": Call(os.system, "echo attacked > attacked"),
    "attack_popen": Call(subprocess.Popen, ["touch", "attacked"]),
    "attack_eval": Call(eval, "open('attacked', 'w')"),
}.items():
    torch.save({"state_dict": {"w": ramp(2)}, "meta": attack}, f"{name}.pth")
