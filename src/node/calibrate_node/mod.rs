//! Calibration as a node: an action whose goal is a quantized model, from a bag or from what the robot sees in the next minutes.
//!
//! The node itself does next to nothing: a [`Recorder`] records, `lidar_ptq calibrate` runs as a [`Job`] that gives way to everything
//! else, and when its model agrees with the float one, the detector is asked to load it.

mod job;
mod params;
mod recorder;

pub use params::CalibrateParams;
pub use recorder::Open;

use self::job::{Job, JobPlan, JobReport, Step};
use self::recorder::{RecordError, RecordOptions, Recorded, Recorder, Topics, recording_path};
use crate::node::describe;
use crate::ros::action::{ActionServer, Asked};
use crate::ros::declarations::DeclaredParameters;
use crate::ros::interface::{Interface, Publisher, Service};
use crate::ros::msg::RosService;
use crate::ros::msg::action_msgs::{GoalId, GoalStatus};
use crate::ros::msg::diagnostic_msgs::{DiagnosticArray, DiagnosticStatus, KeyValue};
use crate::ros::msg::lidar_ptq_msgs::{Calibrate, CalibrateFeedback, CalibrateGoal, CalibrateResult, LoadModel, LoadModelRequest};
use crate::ros::msg::std_msgs::{Header, Text};
use crate::ros::names::{NameError, NodeName};
use crate::ros::parameter_server::{ParameterOwner, ParameterServer};
use crate::ros::transport::{Received, Request, Response, Transport, TransportError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the node looks at what it has set going.
const PERIOD: Duration = Duration::from_millis(100);
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// How long the detector may take to load a model and answer.
const MAX_LOADING: Duration = Duration::from_secs(30);
/// Of a goal that the node sets itself.
const OWN_GOAL: GoalId = [0xff; 16];

pub struct CalibrateNode {
    node: NodeName,
    server: ParameterServer,
    declared: DeclaredParameters,
    /// What `declared` says.
    params: CalibrateParams,
    action: ActionServer<Calibrate>,
    topics: Topics,
    /// Of the detector, which has its usual name and this node's namespace unless it is remapped.
    load_model: String,
    diagnostics: String,
    report: String,
    /// `lidar_ptq`.
    program: PathBuf,
    open: Open,
    work: Work,
    step: Step,
    /// How the last goal ended.
    last: Option<CalibrateResult>,
    reported: Instant,
}

/// What is being done.
enum Work {
    Nothing,
    Recording { recorder: Recorder, plan: JobPlan, load: bool },
    Calibrating { job: Job, load: bool },
    Loading { call: i64, since: Instant, report: JobReport },
}

impl CalibrateNode {
    /// * `declared`: from [`CalibrateParams::declare`];
    /// * `program`: the command line program `lidar_ptq`, which calibrates;
    /// * `open`: how to join the graph, for recording.
    ///
    /// # Errors
    /// Names that ROS does not allow.
    pub fn new(
        node: NodeName,
        remaps: &[(String, String)],
        declared: DeclaredParameters,
        program: PathBuf,
        open: Open,
    ) -> Result<Self, NameError> {
        let name = |name: &str| node.resolve_remapped(name, remaps);
        let topics = Topics {
            cloud: name("~/input/pointcloud")?,
            odometry: name("~/input/odometry")?,
            transforms: name("/tf")?,
            static_transforms: name("/tf_static")?,
        };
        Ok(Self {
            server: ParameterServer::new(&node, remaps)?,
            params: CalibrateParams::new(&declared),
            declared,
            action: ActionServer::new(&node, "~/calibrate", remaps)?,
            topics,
            load_model: name("lidar_ptq/load_model")?,
            diagnostics: name("/diagnostics")?,
            report: name("~/report")?,
            node,
            program,
            open,
            work: Work::Nothing,
            step: Step::default(),
            last: None,
            reported: Instant::now(),
        })
    }

    /// What the transport has to carry.
    pub fn interface(&self) -> Interface {
        let own = [
            Publisher::new::<DiagnosticArray>(self.diagnostics.clone()),
            Publisher { kept: 1, ..Publisher::new::<Text>(self.report.clone()) },
            self.server.publisher(),
        ];
        Interface {
            node: self.node.clone(),
            subscriptions: Vec::new(),
            publishers: self.action.publishers().into_iter().chain(own).collect(),
            services: self.action.services().into_iter().chain(self.server.services()).collect(),
            clients: vec![Service { name: self.load_model.clone(), type_name: LoadModel::TYPE }],
        }
    }

    /// Works until `stop` is set, or its own first goal has ended and that is all it was for: whether that went well.
    ///
    /// # Errors
    /// A transport from which nothing can be received.
    pub fn run(&mut self, transport: &mut dyn Transport, stop: &AtomicBool) -> Result<bool, TransportError> {
        if let Some(goal) = self.params.first_goal.clone() {
            note(self.action.accept(OWN_GOAL, None, transport));
            self.start(&goal, transport);
        }
        while !stop.load(Ordering::SeqCst) {
            match transport.receive(PERIOD)? {
                Received::Request(request) => self.serve(&request, transport),
                Received::Response(response) => self.on_response(&response, transport),
                Received::Message(_) | Received::Nothing => {}
                Received::End => break,
            }
            self.proceed(transport);
            if self.reported.elapsed() >= REPORT_PERIOD {
                self.reported = Instant::now();
                self.publish_diagnostics(transport);
            }
            if self.params.exit_when_done && matches!(self.work, Work::Nothing) && self.last.is_some() {
                self.publish_diagnostics(transport);
                return Ok(self.last.as_ref().is_some_and(|last| last.success));
            }
        }
        self.work = Work::Nothing;
        Ok(true)
    }

    fn serve(&mut self, request: &Request, transport: &mut dyn Transport) {
        match self.action.serve(request, transport) {
            Ok(Some(Asked::Goal { id, goal, request })) => {
                if matches!(self.work, Work::Nothing) {
                    note(self.action.accept(id, Some(request), transport));
                    self.start(&goal, transport);
                } else {
                    tracing::warn!("a goal was refused: another is worked on");
                    note(self.action.reject(request, transport));
                }
            }
            Ok(Some(Asked::Cancel)) => self.cancel(transport),
            Ok(None) => {
                let (server, now) = (self.server.clone(), transport.now());
                note(server.serve(request, self, transport, now));
            }
            Err(error) => note(Err(error)),
        }
    }

    fn start(&mut self, goal: &CalibrateGoal, transport: &mut dyn Transport) {
        self.last = None;
        let (plan, is_recorded) = match self.plan(goal, transport) {
            Ok(plan) => plan,
            Err(reason) => return self.fail(reason, transport),
        };
        if !is_recorded {
            return self.calibrate(&plan, goal.load, transport);
        }
        let options = RecordOptions {
            path: plan.bag.clone(),
            seconds: goal.record_minutes * 60.0,
            max_bytes: (self.params.record_max_mb as u64) << 20,
            reliability: self.params.reliability,
        };
        tracing::info!(topic = self.topics.cloud, seconds = options.seconds, path = %plan.bag.display(), "recording");
        match NodeName::new(self.node.namespace(), &format!("{}_recorder", self.node.base())) {
            Ok(node) => match Recorder::start(self.open.clone(), node, self.topics.clone(), options) {
                Ok(recorder) => self.work = Work::Recording { recorder, plan, load: goal.load },
                Err(error) => self.fail(format!("the recording cannot be started: {error}"), transport),
            },
            Err(error) => self.fail(error.to_string(), transport),
        }
    }

    /// What is to be done, and whether its bag is still to be recorded.
    fn plan(&self, goal: &CalibrateGoal, transport: &dyn Transport) -> Result<(JobPlan, bool), String> {
        let given = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let model = given(&goal.model).or_else(|| self.params.model.clone());
        let model = model.ok_or("no model: neither the goal nor the parameter model_path names one; expected a float model's file")?;
        let output = given(&goal.output).or_else(|| self.params.output.clone()).unwrap_or_else(|| model.with_extension("int8.safetensors"));
        if let Some(bag) = given(&goal.bag) {
            return Ok((JobPlan { model, bag, output, topic: self.params.bag_topic.clone() }, false));
        }
        if !(goal.record_minutes > 0.0 && goal.record_minutes.is_finite()) {
            return Err(format!("no bag, and record_minutes is {}; expected a bag's path, or minutes to record", goal.record_minutes));
        }
        let beside = || output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let folder = self.params.record_folder.clone().unwrap_or_else(beside);
        let bag = recording_path(&folder, transport.now().0 / 1_000_000_000);
        Ok((JobPlan { model, bag, output, topic: Some(self.topics.cloud.clone()) }, true))
    }

    fn calibrate(&mut self, plan: &JobPlan, load: bool, transport: &mut dyn Transport) {
        tracing::info!(model = %plan.model.display(), bag = %plan.bag.display(), output = %plan.output.display(), "calibrating");
        match Job::start(&self.program, plan, &self.params) {
            Ok(job) => self.work = Work::Calibrating { job, load },
            Err(error) => self.fail(format!("{}: {error}", self.program.display()), transport),
        }
    }

    /// Looks at what was set going, and goes on with what follows.
    fn proceed(&mut self, transport: &mut dyn Transport) {
        match &mut self.work {
            Work::Nothing => {}
            Work::Recording { recorder, plan, load } => {
                let [done, of] = [recorder.elapsed_s(), recorder.seconds].map(|s| s as u32);
                let stage = format!("recording, {} clouds", recorder.clouds());
                if let Some(outcome) = recorder.poll() {
                    let (plan, load) = (plan.clone(), *load);
                    return self.recorded(outcome, &plan, load, transport);
                }
                self.tell(Step { stage, done: done.min(of), of }, transport);
            }
            Work::Calibrating { job, load } => {
                let (load, (step, outcome)) = (*load, job.poll());
                if let Some(step) = step {
                    self.tell(step, transport);
                }
                if let Some(outcome) = outcome {
                    self.calibrated(outcome, load, transport);
                }
            }
            Work::Loading { since, report, .. } => {
                if since.elapsed() > MAX_LOADING {
                    let message = format!("{} was written, but {} did not answer", report.model, self.load_model);
                    let result = CalibrateResult { message, ..result_of(report) };
                    self.finish(GoalStatus::ABORTED, result, transport);
                }
            }
        }
    }

    fn recorded(&mut self, outcome: Result<Recorded, RecordError>, plan: &JobPlan, load: bool, transport: &mut dyn Transport) {
        match outcome {
            Ok(recorded) => {
                tracing::info!(clouds = recorded.clouds, lost = recorded.lost, path = %plan.bag.display(), "recorded");
                self.calibrate(plan, load, transport);
            }
            Err(RecordError::Cancelled) => self.cancelled(transport),
            Err(error) => self.fail(describe(&error), transport),
        }
    }

    fn calibrated(&mut self, outcome: Result<JobReport, String>, load: bool, transport: &mut dyn Transport) {
        let report = match outcome {
            Ok(report) => report,
            Err(reason) => return self.fail(reason, transport),
        };
        note(transport.publish(&self.report, transport.now(), &Text { data: report.text.clone() }));
        let done = |message: String| CalibrateResult { success: true, message, ..result_of(&report) };
        if !load {
            return self.finish(GoalStatus::SUCCEEDED, done(format!("wrote {}", report.model)), transport);
        }
        if report.agreement.is_none() {
            let message = format!("wrote {}; the detector was not asked to load it: there was nothing to judge it with", report.model);
            return self.finish(GoalStatus::SUCCEEDED, done(message), transport);
        }
        // The detector may stand in another folder.
        let path = std::path::absolute(&report.model).map_or_else(|_| report.model.clone(), |p| p.display().to_string());
        let call = transport.call(&self.load_model, &LoadModel::encode_request(&LoadModelRequest { path }));
        match call {
            Ok(call) => {
                self.tell(Step { stage: "loading".into(), done: 0, of: 1 }, transport);
                self.work = Work::Loading { call, since: Instant::now(), report };
            }
            Err(error) => {
                let message = format!("{} was written, but the detector could not be asked to load it: {error}", report.model);
                self.finish(GoalStatus::ABORTED, CalibrateResult { message, ..result_of(&report) }, transport);
            }
        }
    }

    fn on_response(&mut self, response: &Response, transport: &mut dyn Transport) {
        let Work::Loading { call, report, .. } = &self.work else { return };
        if response.call != *call {
            return;
        }
        let result = result_of(report);
        match LoadModel::decode_response(&response.data) {
            Ok(answer) if answer.success => {
                let result = CalibrateResult { success: true, message: answer.message, loaded: true, ..result };
                self.finish(GoalStatus::SUCCEEDED, result, transport);
            }
            Ok(answer) => {
                let message = format!("{} was written, but the detector refuses it: {}", report.model, answer.message);
                self.finish(GoalStatus::ABORTED, CalibrateResult { message, ..result }, transport);
            }
            Err(error) => {
                let message = format!("{} was written, but the detector's answer is none: {error}", report.model);
                self.finish(GoalStatus::ABORTED, CalibrateResult { message, ..result }, transport);
            }
        }
    }

    /// A recording ends by itself, soon; all else at once. The detector cannot be stopped from loading, and its answer is waited for.
    fn cancel(&mut self, transport: &mut dyn Transport) {
        match &self.work {
            Work::Recording { recorder, .. } => recorder.cancel(),
            Work::Calibrating { .. } => self.cancelled(transport),
            Work::Nothing | Work::Loading { .. } => {}
        }
    }

    fn cancelled(&mut self, transport: &mut dyn Transport) {
        let message = "cancelled; no model was written".to_owned();
        self.finish(GoalStatus::CANCELED, CalibrateResult { message, ..result_of(&JobReport::default()) }, transport);
    }

    fn fail(&mut self, message: String, transport: &mut dyn Transport) {
        self.finish(GoalStatus::ABORTED, CalibrateResult { message, ..result_of(&JobReport::default()) }, transport);
    }

    fn finish(&mut self, status: i8, result: CalibrateResult, transport: &mut dyn Transport) {
        self.work = Work::Nothing;
        self.step = Step::default();
        if result.success {
            tracing::info!(message = result.message, agreement = result.agreement, "done");
        } else {
            tracing::warn!(message = result.message, "the goal was not reached");
        }
        self.last = Some(result.clone());
        note(self.action.finish(status, result, transport));
    }

    /// Only what is new.
    fn tell(&mut self, step: Step, transport: &mut dyn Transport) {
        if step != self.step {
            let feedback = CalibrateFeedback { stage: step.stage.clone(), done: step.done, of: step.of };
            note(self.action.feedback(&feedback, transport));
            self.step = step;
        }
    }

    fn publish_diagnostics(&self, transport: &mut dyn Transport) {
        let (level, message) = match (&self.work, &self.last) {
            (Work::Nothing, None) => (DiagnosticStatus::OK, "waits for a goal".to_owned()),
            (Work::Nothing, Some(last)) if last.success => (DiagnosticStatus::OK, last.message.clone()),
            (Work::Nothing, Some(last)) => (DiagnosticStatus::WARN, last.message.clone()),
            _ => (DiagnosticStatus::OK, format!("{} {}/{}", self.step.stage, self.step.done, self.step.of)),
        };
        let node = self.node.to_string();
        let values = [
            ("stage", self.step.stage.clone()),
            ("done", self.step.done.to_string()),
            ("of", self.step.of.to_string()),
            ("model", self.last.as_ref().map_or_else(String::new, |last| last.model.clone())),
        ];
        let values = values.map(|(key, value)| KeyValue { key: key.to_owned(), value }).into();
        let name = format!("{}: calibration", node.trim_start_matches('/'));
        let status = vec![DiagnosticStatus { level, name, message, hardware_id: node, values }];
        let stamp = transport.now();
        let message = DiagnosticArray { header: Header { stamp, frame_id: String::new() }, status };
        note(transport.publish(&self.diagnostics, stamp, &message));
    }
}

impl ParameterOwner for CalibrateNode {
    fn parameters(&self) -> &DeclaredParameters {
        &self.declared
    }

    fn take_over(&mut self, declared: DeclaredParameters) -> Result<(), String> {
        self.params = CalibrateParams::new(&declared);
        self.declared = declared;
        Ok(())
    }
}

fn result_of(report: &JobReport) -> CalibrateResult {
    CalibrateResult {
        model: report.model.clone(),
        agreement: report.agreement.unwrap_or(-1.0),
        report: report.text.clone(),
        ..CalibrateResult::default()
    }
}

/// What cannot be sent does not stop the work.
fn note(sent: Result<(), TransportError>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "not sent");
    }
}
