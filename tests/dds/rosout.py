"""Hears a node's log as ROS 2's tools do, over Eclipse Cyclone DDS; prints JSON, an object a line.

Asks the node to load a model that is not there, which it logs, and subscribes anew then, as one who comes later.
"""
import argparse
import sys
import time
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import uint8, uint32
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from peer import Client, LoadModelRequest, LoadModelResponse, Time, message, say, seconds

WARN = 30
PATIENCE = 20.0


@dataclass
class Log(IdlStruct, **message("rcl_interfaces/msg/Log")):
    stamp: Time
    level: uint8
    name: str
    msg: str
    file: str
    function: str
    line: uint32


def lines_until_warning(reader, logger):
    lines, until = [], time.monotonic() + PATIENCE
    while time.monotonic() < until:
        lines += [line for line in reader.take(N=1000) if line.name == logger]
        if any(line.level == WARN for line in lines):
            return lines
        time.sleep(0.02)
    sys.exit(f"no warning of {logger} within {PATIENCE} s, only {lines}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    logger = args.node.strip("/").replace("/", ".")
    # As `ros2 topic echo /rosout` asks (rcl_qos_profile_rosout_default).
    asked = Qos(
        Policy.Reliability.Reliable(duration(milliseconds=200)),
        Policy.Durability.TransientLocal,
        Policy.History.KeepLast(1000),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )
    participant = DomainParticipant(args.domain)
    topic = Topic(participant, "rt/rosout", Log, qos=asked)
    reader = DataReader(participant, topic, qos=asked)
    Client(participant, f"{args.node}/load_model", LoadModelRequest, LoadModelResponse).call(args.model)
    for line in lines_until_warning(reader, logger):
        say(level=line.level, text=line.msg, file=line.file, module=line.function, line=line.line, stamp=seconds(line.stamp))
    offered = [reader.get_matched_publication_data(handle).qos for handle in reader.get_matched_publications()]
    say(lifespans=[qos[Policy.Lifespan].lifespan / duration(seconds=1) for qos in offered])
    later = DataReader(participant, topic, qos=asked)
    say(later=[line.msg for line in lines_until_warning(later, logger)])


if __name__ == "__main__":
    main()
