//! `lifecycle_msgs`: the states of a managed node, asked for and changed from outside.

use super::std_srvs::Empty;
use super::{cdr_struct, ros_message, ros_service};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct State {
        pub id: u8,
        pub label: String,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Transition {
        pub id: u8,
        pub label: String,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct TransitionDescription {
        pub transition: Transition,
        pub start_state: State,
        pub goal_state: State,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct TransitionEvent {
        /// Nanoseconds.
        pub timestamp: u64,
        pub transition: Transition,
        pub start_state: State,
        pub goal_state: State,
    }
}

ros_message! {
    TransitionEvent: "lifecycle_msgs" "TransitionEvent",
    "lifecycle_msgs" "Transition", "lifecycle_msgs" "State"
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ChangeStateRequest {
        /// By its number, or by its label where that is 0.
        pub transition: Transition,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ChangeStateResponse {
        pub success: bool,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct GetStateResponse {
        pub current_state: State,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct AvailableStates {
        pub available_states: Vec<State>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct AvailableTransitions {
        pub available_transitions: Vec<TransitionDescription>,
    }
}

ros_service! {
    /// Answered when the change is over.
    ChangeState: "lifecycle_msgs", ChangeStateRequest => ChangeStateResponse
}
ros_service!(GetState: "lifecycle_msgs", Empty => GetStateResponse);
ros_service!(GetAvailableStates: "lifecycle_msgs", Empty => AvailableStates);
ros_service! {
    /// From the present state, or all that there are: two services have this type.
    GetAvailableTransitions: "lifecycle_msgs", Empty => AvailableTransitions
}
