"""Subscribes to a node's boxes over Eclipse Cyclone DDS and never takes any: stopped as by a debugger, or with a full queue of its own."""
import argparse
import os
import signal
import time

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from peer import Detection3DArray

parser = argparse.ArgumentParser()
parser.add_argument("--domain", type=int, required=True)
parser.add_argument("--detections", required=True)
how = parser.add_mutually_exclusive_group(required=True)
how.add_argument("--stopped", action="store_true")
how.add_argument("--full", action="store_true")
args = parser.parse_args()

participant = DomainParticipant(args.domain)
qos = Qos(
    Policy.Reliability.Reliable(duration(milliseconds=200)),
    Policy.Durability.Volatile,
    Policy.History.KeepAll if args.full else Policy.History.KeepLast(10),
    Policy.ResourceLimits(max_samples=1, max_instances=1, max_samples_per_instance=1) if args.full else Policy.ResourceLimits(-1, -1, -1),
    Policy.DataRepresentation(use_cdrv0_representation=True),
)
reader = DataReader(participant, Topic(participant, f"rt{args.detections}", Detection3DArray, qos=qos), qos=qos)
while not reader.get_matched_publications():
    time.sleep(0.02)
# The node must know of it, too.
time.sleep(1.0)
print("subscribed", flush=True)
if args.stopped:
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(600)
