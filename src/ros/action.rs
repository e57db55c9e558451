//! An action server: an action is three services and two topics (<https://design.ros2.org/articles/actions.html>).
//!
//! One goal at a time is worked on; results of the last ones are kept for those who ask later.

use super::cdr::{Cdr, CdrReader, CdrWriter, Endian};
use super::interface::{Publisher, Service};
use super::msg::action_msgs::{CancelGoal, CancelGoalRequest, CancelGoalResponse, GoalId, GoalInfo, GoalStatus, GoalStatusArray};
use super::msg::{RosAction, RosMessage, RosService};
use super::names::{NameError, NodeName};
use super::transport::{Publication, Request, RequestId, Transport, TransportError};
use crate::sensor::Stamp;
use std::collections::VecDeque;

/// Goals that are remembered.
const KEEP: usize = 10;
/// Requests for a result that is not there yet, at most.
const MAX_WAITING: usize = 100;

/// A node's action, its goals and their results.
pub struct ActionServer<A: RosAction> {
    send_goal: String,
    cancel_goal: String,
    get_result: String,
    feedback: String,
    status: String,
    /// The newest last.
    goals: VecDeque<Goal<A>>,
}

struct Goal<A: RosAction> {
    info: GoalInfo,
    status: i8,
    result: Option<A::Result>,
    /// Who wants to know the result.
    waiting: Vec<RequestId>,
}

/// What the node has to do.
pub enum Asked<A: RosAction> {
    /// To be answered by [`ActionServer::accept`] or [`ActionServer::reject`].
    Goal { id: GoalId, goal: A::Goal, request: RequestId },
    /// The goal that is worked on shall end; [`ActionServer::finish`] says when it has.
    Cancel,
}

impl<A: RosAction> ActionServer<A> {
    /// # Errors
    /// A name that ROS does not allow.
    pub fn new(node: &NodeName, action: &str, remaps: &[(String, String)]) -> Result<Self, NameError> {
        let name = |part: &str| node.resolve_remapped(&format!("{action}/_action/{part}"), remaps);
        Ok(Self {
            send_goal: name("send_goal")?,
            cancel_goal: name("cancel_goal")?,
            get_result: name("get_result")?,
            feedback: name("feedback")?,
            status: name("status")?,
            goals: VecDeque::new(),
        })
    }

    pub fn services(&self) -> Vec<Service> {
        vec![
            Service { name: self.send_goal.clone(), type_name: A::SEND_GOAL },
            Service { name: self.cancel_goal.clone(), type_name: CancelGoal::TYPE },
            Service { name: self.get_result.clone(), type_name: A::GET_RESULT },
        ]
    }

    pub fn publishers(&self) -> Vec<Publisher> {
        vec![
            Publisher { topic: self.feedback.clone(), type_name: A::FEEDBACK, kept: 0, lifespan: None },
            Publisher { kept: 1, ..Publisher::new::<GoalStatusArray>(self.status.clone()) },
        ]
    }

    /// Takes a request, if it is for this action; what is left to the node to do.
    ///
    /// # Errors
    /// An answer that could not be sent. A request that is no valid CDR has none.
    pub fn serve(&mut self, request: &Request, transport: &mut dyn Transport) -> Result<Option<Asked<A>>, TransportError> {
        let service = &*request.service;
        if service == self.send_goal {
            let read = || {
                let mut reader = CdrReader::new(&request.data, A::SEND_GOAL)?;
                Ok::<_, super::cdr::CdrError>((reader.field("goal_id")?, reader.field("goal")?))
            };
            return Ok(read().ok().map(|(id, goal)| Asked::Goal { id, goal, request: request.id }));
        }
        if service == self.get_result {
            let id = CdrReader::new(&request.data, A::GET_RESULT).and_then(|mut reader| reader.field("goal_id"));
            return id.map_or(Ok(()), |id| self.tell_result(id, request.id, transport)).map(|()| None);
        }
        if service == self.cancel_goal {
            let Ok(asked) = CancelGoal::decode_request(&request.data) else { return Ok(None) };
            let response = self.cancel(&asked);
            let is_news = !response.goals_canceling.is_empty();
            transport.reply(&self.cancel_goal, request.id, &CancelGoal::encode_response(&response))?;
            if is_news {
                self.publish_status(transport)?;
                return Ok(Some(Asked::Cancel));
            }
        }
        Ok(None)
    }

    /// The goal is worked on from now on. `request`: who sent it; `None` if the node has set it itself.
    ///
    /// # Errors
    /// An answer that could not be sent.
    pub fn accept(&mut self, id: GoalId, request: Option<RequestId>, transport: &mut dyn Transport) -> Result<(), TransportError> {
        let stamp = transport.now();
        self.goals.push_back(Goal {
            info: GoalInfo { goal_id: id, stamp },
            status: GoalStatus::EXECUTING,
            result: None,
            waiting: Vec::new(),
        });
        if self.goals.len() > KEEP {
            self.goals.pop_front();
        }
        if let Some(request) = request {
            self.answer_goal(true, stamp, request, transport)?;
        }
        self.publish_status(transport)
    }

    /// # Errors
    /// An answer that could not be sent.
    pub fn reject(&mut self, request: RequestId, transport: &mut dyn Transport) -> Result<(), TransportError> {
        self.answer_goal(false, Stamp::default(), request, transport)
    }

    /// How far the goal is.
    ///
    /// # Errors
    /// A message that could not be sent.
    pub fn feedback(&self, feedback: &A::Feedback, transport: &mut dyn Transport) -> Result<(), TransportError> {
        let Some(goal) = self.goals.back().filter(|goal| goal.result.is_none()) else { return Ok(()) };
        let mut message = CdrWriter::new(Endian::Little);
        goal.info.goal_id.write(&mut message);
        feedback.write(&mut message);
        let (stamp, data) = (transport.now(), message.finish());
        transport.publish_raw(Publication { topic: &self.feedback, type_name: A::FEEDBACK, definition: "", stamp, data: &data })
    }

    /// The goal has ended: `status` is one of [`GoalStatus`]'s last three.
    ///
    /// # Errors
    /// An answer that could not be sent.
    pub fn finish(&mut self, status: i8, result: A::Result, transport: &mut dyn Transport) -> Result<(), TransportError> {
        let Some(goal) = self.goals.back_mut().filter(|goal| goal.result.is_none()) else { return Ok(()) };
        goal.status = status;
        let data = encode_result::<A>(status, &result);
        goal.result = Some(result);
        let answered = std::mem::take(&mut goal.waiting).into_iter().try_for_each(|to| transport.reply(&self.get_result, to, &data));
        self.publish_status(transport).and(answered)
    }

    fn answer_goal(&self, accepted: bool, stamp: Stamp, to: RequestId, transport: &mut dyn Transport) -> Result<(), TransportError> {
        let mut response = CdrWriter::new(Endian::Little);
        accepted.write(&mut response);
        stamp.write(&mut response);
        transport.reply(&self.send_goal, to, &response.finish())
    }

    /// Now, or when there is one.
    fn tell_result(&mut self, id: GoalId, to: RequestId, transport: &mut dyn Transport) -> Result<(), TransportError> {
        let Some(goal) = self.goals.iter_mut().find(|goal| goal.info.goal_id == id) else {
            return transport.reply(&self.get_result, to, &encode_result::<A>(GoalStatus::UNKNOWN, &A::Result::default()));
        };
        match &goal.result {
            Some(result) => transport.reply(&self.get_result, to, &encode_result::<A>(goal.status, result)),
            None => {
                if goal.waiting.len() < MAX_WAITING {
                    goal.waiting.push(to);
                }
                Ok(())
            }
        }
    }

    fn cancel(&mut self, asked: &CancelGoalRequest) -> CancelGoalResponse {
        let CancelGoalRequest { goal_info: GoalInfo { goal_id, stamp } } = *asked;
        let (is_any, has_time) = (goal_id == GoalId::default(), stamp != Stamp::default());
        let is_meant = |info: &GoalInfo| info.goal_id == goal_id || (has_time && info.stamp <= stamp) || (is_any && !has_time);
        let is_known = self.goals.iter().any(|goal| goal.info.goal_id == goal_id);
        let mut goals_canceling = Vec::new();
        if let Some(goal) = self.goals.back_mut().filter(|goal| goal.result.is_none() && is_meant(&goal.info)) {
            goal.status = GoalStatus::CANCELING;
            goals_canceling.push(goal.info);
        }
        let return_code = match (goals_canceling.is_empty(), is_known, is_any) {
            (false, _, _) | (true, _, true) => CancelGoalResponse::NONE,
            (true, true, _) => CancelGoalResponse::GOAL_TERMINATED,
            (true, false, _) => CancelGoalResponse::UNKNOWN_GOAL,
        };
        CancelGoalResponse { return_code, goals_canceling }
    }

    fn publish_status(&self, transport: &mut dyn Transport) -> Result<(), TransportError> {
        let status = |goal: &Goal<A>| GoalStatus { goal_info: goal.info, status: goal.status };
        let message = GoalStatusArray { status_list: self.goals.iter().map(status).collect() };
        let (stamp, data) = (transport.now(), message.encode());
        let (type_name, definition) = (GoalStatusArray::TYPE, GoalStatusArray::DEFINITION);
        transport.publish_raw(Publication { topic: &self.status, type_name, definition, stamp, data: &data })
    }
}

fn encode_result<A: RosAction>(status: i8, result: &A::Result) -> Vec<u8> {
    let mut response = CdrWriter::new(Endian::Little);
    status.write(&mut response);
    result.write(&mut response);
    response.finish()
}
