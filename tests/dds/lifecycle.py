"""Changes the state of a managed node as `ros2 lifecycle` and nav2's manager do, over Eclipse Cyclone DDS; prints a JSON object a change, and one
of the events that it heard."""
import argparse
import time
from dataclasses import dataclass

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import sequence, uint8, uint64
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from peer import Client, message, qos, say, service


@dataclass
class State(IdlStruct, **message("lifecycle_msgs/msg/State")):
    id: uint8
    label: str


@dataclass
class Transition(IdlStruct, **message("lifecycle_msgs/msg/Transition")):
    id: uint8
    label: str


@dataclass
class TransitionDescription(IdlStruct, **message("lifecycle_msgs/msg/TransitionDescription")):
    transition: Transition
    start_state: State
    goal_state: State


@dataclass
class TransitionEvent(IdlStruct, **message("lifecycle_msgs/msg/TransitionEvent")):
    timestamp: uint64
    transition: Transition
    start_state: State
    goal_state: State


CHANGE = service("lifecycle_msgs/srv/ChangeState", dict(transition=Transition), dict(success=bool))
GET = service("lifecycle_msgs/srv/GetState", {}, dict(current_state=State))
TRANSITIONS = service("lifecycle_msgs/srv/GetAvailableTransitions", {}, dict(available_transitions=sequence[TransitionDescription]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("changes", nargs="*", help="labels of transitions")
    args = parser.parse_args()
    participant = DomainParticipant(args.domain)
    reliable = qos(True)
    heard = DataReader(participant, Topic(participant, f"rt{args.node}/transition_event", TransitionEvent, qos=reliable), qos=reliable)
    change, get, transitions = [
        Client(participant, f"{args.node}/{name}", *types)
        for name, types in (("change_state", CHANGE), ("get_state", GET), ("get_available_transitions", TRANSITIONS))
    ]
    until = time.monotonic() + 5
    while not heard.get_matched_publications() and time.monotonic() < until:
        time.sleep(0.02)
    say(state=get.call(0).current_state.label)
    for label in args.changes:
        # As the tools do: by the number that the node gives for the label.
        known = {t.transition.label: t.transition.id for t in transitions.call(0).available_transitions}
        success = change.call(Transition(known.get(label, 99), label)).success
        say(known=sorted(known), success=success, state=get.call(0).current_state.label)
    time.sleep(0.5)
    say(events=[f"{e.start_state.label} {e.transition.label} {e.goal_state.label}" for e in heard.take(N=100)])


if __name__ == "__main__":
    main()
