//! The states of a managed node (`ros2 lifecycle`, nav2's lifecycle manager) and the services by which they change, over any transport.
//!
//! States, transitions and their numbers are those of `lifecycle_msgs`, their labels and order those of rcl's default state machine.
//! Nothing here ends in `errorprocessing`: a transition that fails leaves the node as it was.

use super::interface::{Publisher, Service};
use super::msg::RosService;
use super::msg::lifecycle_msgs as wire;
use super::msg::lifecycle_msgs::{ChangeState, GetAvailableStates, GetAvailableTransitions, GetState};
use super::names::{NameError, NodeName};
use super::transport::{Request, RequestId, Transport, TransportError};
use crate::sensor::Stamp;

/// A state in which a node may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Unconfigured = 1,
    Inactive = 2,
    Active = 3,
    Finalized = 4,
}

/// What may be asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    Configure,
    Cleanup,
    Activate,
    Deactivate,
    Shutdown,
}

/// A transition from a state.
#[derive(Debug)]
struct Step {
    transition: Transition,
    id: u8,
    start: State,
    /// The state while it is carried out.
    during: (u8, &'static str),
    goal: State,
    /// Of its success; failure is one more.
    success: u8,
}

/// In rcl's order.
static STEPS: [Step; 7] = [
    Step::new(Transition::Configure, 1, State::Unconfigured, (10, "configuring"), State::Inactive, 10),
    Step::new(Transition::Cleanup, 2, State::Inactive, (11, "cleaningup"), State::Unconfigured, 20),
    Step::new(Transition::Activate, 3, State::Inactive, (13, "activating"), State::Active, 30),
    Step::new(Transition::Deactivate, 4, State::Active, (14, "deactivating"), State::Inactive, 40),
    Step::new(Transition::Shutdown, 5, State::Unconfigured, (12, "shuttingdown"), State::Finalized, 50),
    Step::new(Transition::Shutdown, 6, State::Inactive, (12, "shuttingdown"), State::Finalized, 50),
    Step::new(Transition::Shutdown, 7, State::Active, (12, "shuttingdown"), State::Finalized, 50),
];

/// All that a node of rcl has, by number.
const STATES: [(u8, &str); 11] = [
    (0, "unknown"),
    (1, "unconfigured"),
    (2, "inactive"),
    (3, "active"),
    (4, "finalized"),
    (10, "configuring"),
    (11, "cleaningup"),
    (12, "shuttingdown"),
    (13, "activating"),
    (14, "deactivating"),
    (15, "errorprocessing"),
];

/// A node's state, and the names of the services that tell and change it.
#[derive(Debug)]
pub struct Lifecycle {
    get_state: String,
    change_state: String,
    states: String,
    transitions: String,
    graph: String,
    events: String,
    state: State,
    /// What is being carried out, and for whom.
    change: Option<(&'static Step, RequestId)>,
}

impl Lifecycle {
    /// # Errors
    /// A rule of `remaps` with a name that ROS does not allow.
    pub fn new(node: &NodeName, remaps: &[(String, String)], state: State) -> Result<Self, NameError> {
        let name = |name: &str| node.resolve_remapped(name, remaps);
        Ok(Self {
            get_state: name("~/get_state")?,
            change_state: name("~/change_state")?,
            states: name("~/get_available_states")?,
            transitions: name("~/get_available_transitions")?,
            graph: name("~/get_transition_graph")?,
            events: name("~/transition_event")?,
            state,
            change: None,
        })
    }

    pub fn services(&self) -> Vec<Service> {
        vec![
            Service { name: self.get_state.clone(), type_name: GetState::TYPE },
            Service { name: self.change_state.clone(), type_name: ChangeState::TYPE },
            Service { name: self.states.clone(), type_name: GetAvailableStates::TYPE },
            Service { name: self.transitions.clone(), type_name: GetAvailableTransitions::TYPE },
            Service { name: self.graph.clone(), type_name: GetAvailableTransitions::TYPE },
        ]
    }

    pub fn publisher(&self) -> Publisher {
        Publisher::new::<wire::TransitionEvent>(self.events.clone())
    }

    /// Where the node stays, or was until it began to change.
    pub fn state(&self) -> State {
        self.state
    }

    /// Such as `active`, or `configuring` while it changes.
    pub fn label(&self) -> &'static str {
        self.change.map_or(self.state.label(), |(step, _)| step.during.1)
    }

    /// Answers a request, if it is for one of these services; the second of the results is what could not be sent. A transition that is
    /// returned is the node's to carry out; it then calls [`Lifecycle::finish`], which answers who asked. A request that is no valid CDR has
    /// no answer.
    pub fn serve(
        &mut self,
        request: &Request,
        transport: &mut dyn Transport,
        now: Stamp,
    ) -> (Option<Transition>, Result<(), TransportError>) {
        let service = &*request.service;
        let answer = if service == self.get_state {
            GetState::encode_response(&wire::GetStateResponse { current_state: self.present() })
        } else if service == self.states {
            let available_states = STATES.into_iter().map(state).collect();
            GetAvailableStates::encode_response(&wire::AvailableStates { available_states })
        } else if service == self.transitions {
            let available_transitions = self.possible().map(Step::describe).collect();
            GetAvailableTransitions::encode_response(&wire::AvailableTransitions { available_transitions })
        } else if service == self.graph {
            let available_transitions = STEPS.iter().flat_map(|s| [s.describe(), s.describe_end(true), s.describe_end(false)]).collect();
            GetAvailableTransitions::encode_response(&wire::AvailableTransitions { available_transitions })
        } else if service == self.change_state {
            let Ok(asked) = ChangeState::decode_request(&request.data) else { return (None, Ok(())) };
            if let Some(step) = self.wanted(&asked.transition) {
                self.change = Some((step, request.id));
                tracing::info!("asked to {}", step.transition.label());
                return (Some(step.transition), self.tell(step.describe(), transport, now));
            }
            tracing::warn!(
                id = asked.transition.id,
                label = asked.transition.label,
                state = self.label(),
                "this state has no such transition"
            );
            ChangeState::encode_response(&wire::ChangeStateResponse { success: false })
        } else {
            return (None, Ok(()));
        };
        (None, transport.reply(service, request.id, &answer))
    }

    /// What was asked has been carried out, or could not be.
    ///
    /// # Errors
    /// What could not be sent; the state has changed all the same.
    pub fn finish(&mut self, success: bool, transport: &mut dyn Transport, now: Stamp) -> Result<(), TransportError> {
        let Some((step, asked_by)) = self.change.take() else { return Ok(()) };
        self.state = step.end(success);
        tracing::info!("the node is {}", self.state.label());
        let told = self.tell(step.describe_end(success), transport, now);
        transport.reply(&self.change_state, asked_by, &ChangeState::encode_response(&wire::ChangeStateResponse { success }))?;
        told
    }

    fn present(&self) -> wire::State {
        self.change.map_or_else(|| self.state.describe(), |(step, _)| state(step.during))
    }

    /// None while the node changes.
    fn possible(&self) -> impl Iterator<Item = &'static Step> {
        let from = self.change.is_none().then_some(self.state);
        STEPS.iter().filter(move |step| Some(step.start) == from)
    }

    /// By its number, or by its label where there is none, as in rclcpp.
    fn wanted(&self, asked: &wire::Transition) -> Option<&'static Step> {
        let by_label = asked.id == 0 && !asked.label.is_empty();
        self.possible().find(|step| if by_label { step.transition.label() == asked.label } else { step.id == asked.id })
    }

    fn tell(&self, change: wire::TransitionDescription, transport: &mut dyn Transport, now: Stamp) -> Result<(), TransportError> {
        let wire::TransitionDescription { transition, start_state, goal_state } = change;
        let timestamp = u64::try_from(now.0).unwrap_or(0);
        transport.publish(&self.events, now, &wire::TransitionEvent { timestamp, transition, start_state, goal_state })
    }
}

impl State {
    pub fn label(self) -> &'static str {
        match self {
            Self::Unconfigured => "unconfigured",
            Self::Inactive => "inactive",
            Self::Active => "active",
            Self::Finalized => "finalized",
        }
    }

    fn describe(self) -> wire::State {
        state((self as u8, self.label()))
    }
}

impl Transition {
    fn label(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Cleanup => "cleanup",
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Step {
    const fn new(transition: Transition, id: u8, start: State, during: (u8, &'static str), goal: State, success: u8) -> Self {
        Self { transition, id, start, during, goal, success }
    }

    /// Where a node is afterwards: a failure leads back, but not from shutting down.
    fn end(&self, success: bool) -> State {
        if success || self.transition == Transition::Shutdown { self.goal } else { self.start }
    }

    /// From a state to the one in between.
    fn describe(&self) -> wire::TransitionDescription {
        let transition = wire::Transition { id: self.id, label: self.transition.label().to_owned() };
        wire::TransitionDescription { transition, start_state: self.start.describe(), goal_state: state(self.during) }
    }

    /// From the one in between to where it leads.
    fn describe_end(&self, success: bool) -> wire::TransitionDescription {
        let (id, label) = if success { (self.success, "transition_success") } else { (self.success + 1, "transition_failure") };
        let transition = wire::Transition { id, label: label.to_owned() };
        wire::TransitionDescription { transition, start_state: state(self.during), goal_state: self.end(success).describe() }
    }
}

fn state((id, label): (u8, &str)) -> wire::State {
    wire::State { id, label: label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros::msg::RosMessage;
    use crate::ros::msg::std_srvs::Empty;
    use crate::ros::transport::{Publication, Received};
    use std::time::Duration;

    /// What was sent, in its order.
    #[derive(Default)]
    struct Wire {
        events: Vec<wire::TransitionEvent>,
        answers: Vec<Vec<u8>>,
        is_full: bool,
    }

    impl Transport for Wire {
        fn receive(&mut self, _: Duration) -> Result<Received, TransportError> {
            Ok(Received::End)
        }
        fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
            if self.is_full {
                return Err(TransportError::Full { topic: publication.topic.to_owned() });
            }
            assert_eq!(publication.topic, "/robot/lidar_ptq/transition_event");
            self.events.push(wire::TransitionEvent::decode(publication.data).unwrap());
            Ok(())
        }
        fn reply(&mut self, _: &str, _: RequestId, data: &[u8]) -> Result<(), TransportError> {
            self.answers.push(data.to_vec());
            Ok(())
        }
        fn call(&mut self, _: &str, _: &[u8]) -> Result<i64, TransportError> {
            unreachable!("a server calls nobody")
        }
        fn now(&self) -> Stamp {
            Stamp(7)
        }
    }

    struct Node(Lifecycle, Wire);

    impl Node {
        fn new(state: State) -> Self {
            let name = NodeName::new("robot", "lidar_ptq").unwrap();
            Self(Lifecycle::new(&name, &[], state).unwrap(), Wire::default())
        }

        fn ask<S: RosService>(&mut self, service: &str, request: &S::Request) -> (Option<Transition>, Option<S::Response>) {
            let service = format!("/robot/lidar_ptq/{service}").into();
            let request = Request { service, id: RequestId { caller: [1; 16], sequence: 3 }, data: S::encode_request(request) };
            let (transition, _) = self.0.serve(&request, &mut self.1, Stamp(7));
            (transition, self.1.answers.pop().map(|data| S::decode_response(&data).unwrap()))
        }

        fn change(&mut self, id: u8, label: &str) -> (Option<Transition>, Option<bool>) {
            let transition = wire::Transition { id, label: label.into() };
            let (wanted, answer) = self.ask::<ChangeState>("change_state", &wire::ChangeStateRequest { transition });
            (wanted, answer.map(|a| a.success))
        }

        fn state(&mut self) -> (u8, String) {
            let state = self.ask::<GetState>("get_state", &Empty).1.unwrap().current_state;
            (state.id, state.label)
        }

        fn transitions(&mut self, service: &str) -> Vec<(u8, String)> {
            let answer = self.ask::<GetAvailableTransitions>(service, &Empty).1.unwrap();
            answer.available_transitions.into_iter().map(|t| (t.transition.id, t.transition.label)).collect()
        }
    }

    /// The numbers are those of `lifecycle_msgs/msg/Transition` and `State`.
    #[test]
    fn a_node_goes_through_its_states() {
        let mut node = Node::new(State::Unconfigured);
        assert_eq!(node.transitions("get_available_transitions"), [(1, "configure".into()), (5, "shutdown".into())]);
        assert_eq!(node.change(3, ""), (None, Some(false)), "it is not configured");
        assert_eq!(node.change(1, ""), (Some(Transition::Configure), None));
        assert_eq!((node.state(), node.0.label()), ((10, "configuring".into()), "configuring"));
        assert_eq!(node.change(1, ""), (None, Some(false)), "one at a time");
        assert!(node.transitions("get_available_transitions").is_empty());
        node.0.finish(false, &mut node.1, Stamp(8)).unwrap();
        assert!(!ChangeState::decode_response(&node.1.answers.pop().unwrap()).unwrap().success);
        assert_eq!(node.state(), (1, "unconfigured".into()));
        for (id, label, goal) in [(0, "configure", 2), (3, "", 3), (4, "anything", 2), (2, "", 1), (5, "", 4)] {
            assert!(node.change(id, label).0.is_some(), "{id} {label}");
            node.0.finish(true, &mut node.1, Stamp(9)).unwrap();
            assert!(ChangeState::decode_response(&node.1.answers.pop().unwrap()).unwrap().success);
            assert_eq!(node.state().0, goal);
        }
        assert!(node.transitions("get_available_transitions").is_empty(), "it is at its end");
        let told = |e: &wire::TransitionEvent| [e.start_state.id, e.transition.id, e.goal_state.id];
        let events: Vec<[u8; 3]> = node.1.events.iter().map(told).collect();
        let expected = [[1, 1, 10], [10, 11, 1], [1, 1, 10], [10, 10, 2], [2, 3, 13], [13, 30, 3], [3, 4, 14], [14, 40, 2]];
        assert_eq!(events[..8], expected);
        assert_eq!(events[8..], [[2, 2, 11], [11, 20, 1], [1, 5, 12], [12, 50, 4]]);
        assert_eq!(node.1.events[0].timestamp, 7);
    }

    #[test]
    fn the_graph_is_whole_and_shutting_down_has_a_number_for_each_state() {
        let mut node = Node::new(State::Active);
        assert_eq!(node.transitions("get_available_transitions"), [(4, "deactivate".into()), (7, "shutdown".into())]);
        let ids: Vec<u8> = node.transitions("get_transition_graph").into_iter().map(|t| t.0).collect();
        assert_eq!(ids, [1, 10, 11, 2, 20, 21, 3, 30, 31, 4, 40, 41, 5, 50, 51, 6, 50, 51, 7, 50, 51]);
        let states = node.ask::<GetAvailableStates>("get_available_states", &Empty).1.unwrap();
        assert_eq!(states.available_states.len(), 11);
        assert_eq!(node.change(0, "shutdown"), (Some(Transition::Shutdown), None));
    }

    #[test]
    fn what_cannot_be_told_does_not_keep_a_node_from_changing() {
        let mut node = Node::new(State::Active);
        node.1.is_full = true;
        assert_eq!(node.change(4, ""), (Some(Transition::Deactivate), None));
        assert!(node.0.finish(true, &mut node.1, Stamp(9)).is_err());
        assert_eq!((node.0.state(), node.1.answers.len()), (State::Inactive, 1), "the answer goes out all the same");
    }
}
