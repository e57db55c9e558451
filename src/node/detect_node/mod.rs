//! The detector as a node: clouds in, boxes, markers, times and diagnostics out, over any [`Transport`].
//!
//! One thread takes everything that has arrived, works on the newest cloud that can be worked on, and publishes. Clouds that a
//! newer one overtakes are counted; their points still serve as older sweeps. Nothing that comes in ends the node.

mod declarations;
mod health;
mod live;
mod managed;
mod model;
mod params;

pub use params::DetectParams;

use self::health::{Facts, Health, Times};
use self::model::{LoadedModel, Loading};
use super::input::{CloudReader, OpenFrame};
use super::messages::{MarkerStyle, detection_array, marker_array};
use super::motion::{MotionLimits, MotionSource, MotionTracker};
use super::perception::{Frame, Perception};
use super::waiting::{Arrived, Waiting};
use crate::detect::{DetectorConfig, drift};
use crate::engine::Isa;
use crate::graph::Spread;
use crate::ros::bag::RawMessage;
use crate::ros::declarations::DeclaredParameters;
use crate::ros::interface::{Interface, Publisher, Reliability, Service, Subscription};
use crate::ros::lifecycle::{Lifecycle, State};
use crate::ros::msg::diagnostic_msgs::DiagnosticArray;
use crate::ros::msg::lidar_ptq_msgs::LoadModel;
use crate::ros::msg::nav_msgs::Odometry;
use crate::ros::msg::rosgraph_msgs::Clock;
use crate::ros::msg::sensor_msgs::PointCloud2;
use crate::ros::msg::std_msgs::Float64;
use crate::ros::msg::std_srvs::{Trigger, TriggerResponse};
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::ros::msg::vision_msgs::Detection3DArray;
use crate::ros::msg::visualization_msgs::MarkerArray;
use crate::ros::msg::{RosMessage, RosService};
use crate::ros::names::{NameError, NodeName};
use crate::ros::parameter_server::ParameterServer;
use crate::ros::transport::{Received, Request, RequestId, SubscriptionStatus, Transport, TransportError};
use crate::sensor::{LeftOut, Stamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for a message when there is nothing to do: also the time within which the node notices that it shall end.
const IDLE: Duration = Duration::from_millis(100);
/// And while a cloud waits for its transform, or a model for its turn.
const BUSY: Duration = Duration::from_millis(10);
/// A cloud's stamp this far before the last one's says that time was set back, not that clouds came in the wrong order, seconds.
const TIME_SET_BACK_S: f64 = 1.0;
/// Static transforms that are kept for the time after a reset. Robots have tens of messages.
const MAX_STATIC: usize = 1000;
/// Transforms that wait while a frame is worked on: some seconds of a busy robot's.
const KEEP_TRANSFORMS: usize = 2000;
/// Markers outlive this many periods of the input, within the bounds (seconds).
const MARKER_PERIODS: f64 = 2.5;
const MARKER_LIFETIME_S: [f64; 2] = [0.2, 2.0];
/// A latency beyond this is no latency: the clocks differ, seconds.
const MAX_LATENCY_S: f64 = 60.0;

/// The node's topics and services, resolved.
#[derive(Clone, Debug)]
struct Names {
    cloud: String,
    odometry: String,
    transforms: String,
    static_transforms: String,
    clock: String,
    detections: String,
    markers: String,
    diagnostics: String,
    processing_ms: String,
    latency_ms: String,
    cyclic_ms: String,
    load_model: String,
    reset: String,
}

pub struct DetectNode {
    node: NodeName,
    names: Names,
    server: ParameterServer,
    lifecycle: Lifecycle,
    declared: DeclaredParameters,
    /// What `declared` says.
    params: DetectParams,
    isa: Isa,
    perception: Perception,
    reader: CloudReader,
    classes: Vec<String>,
    /// Of the model's file, before the parameters change it.
    model_config: DetectorConfig,
    model_facts: Vec<(&'static str, String)>,
    /// What the clouds of its calibration were like.
    seen: BTreeMap<String, Spread>,
    waiting: Waiting<OpenFrame>,
    loading: Option<Loading>,
    static_transforms: Vec<RawMessage>,
    health: Health,
    /// Of the last cloud.
    fields: String,
    frame_id: String,
    reading: Duration,
    last_stamp: Option<Stamp>,
    /// Simulated time, where there is one.
    clock: Option<Stamp>,
    /// Came while a frame was worked on.
    aside: VecDeque<Received>,
    last_answer: Option<Instant>,
    /// Between answers, seconds, smoothed.
    period_s: Option<f64>,
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{0:#}")]
    Model(anyhow::Error),
}

impl DetectNode {
    /// Loads the model. `declared` comes from [`DetectParams::declare`]. Nothing is received yet: see [`DetectNode::interface`] and [`DetectNode::run`].
    ///
    /// # Errors
    /// A model that cannot be loaded, or that the parameters do not fit; names that ROS does not allow.
    pub fn new(node: NodeName, remaps: &[(String, String)], declared: DeclaredParameters, isa: Isa) -> Result<Self, StartError> {
        let name = |name: &str| node.resolve_remapped(name, remaps);
        let names = Names {
            cloud: name("~/input/pointcloud")?,
            odometry: name("~/input/odometry")?,
            transforms: name("/tf")?,
            static_transforms: name("/tf_static")?,
            clock: name("/clock")?,
            detections: name("~/output/detections")?,
            markers: name("~/output/markers")?,
            diagnostics: name("/diagnostics")?,
            processing_ms: name("~/debug/processing_time_ms")?,
            latency_ms: name("~/debug/pipeline_latency_ms")?,
            cyclic_ms: name("~/debug/cyclic_time_ms")?,
            load_model: name("~/load_model")?,
            reset: name("~/reset")?,
        };
        let server = ParameterServer::new(&node, remaps)?;
        let params = DetectParams::new(&declared);
        let state = if params.autostart { State::Active } else { State::Unconfigured };
        let lifecycle = Lifecycle::new(&node, remaps, state)?;
        let model = LoadedModel::load(&params.model_path, &params, isa).map_err(StartError::Model)?;
        let limits = MotionLimits { max_gap_s: params.max_pose_gap_s, ..MotionLimits::default() };
        let motion = MotionTracker::with_limits(params.fixed_frame.clone(), limits);
        let mut made = Self {
            node,
            names,
            server,
            lifecycle,
            declared,
            isa,
            perception: Perception::new(model.detector, motion),
            reader: model.reader,
            classes: model.classes,
            model_config: model.config,
            model_facts: model.facts,
            seen: model.seen,
            params,
            waiting: Waiting::default(),
            loading: None,
            static_transforms: Vec::new(),
            health: Health::new(),
            fields: String::new(),
            frame_id: String::new(),
            reading: Duration::ZERO,
            last_stamp: None,
            clock: None,
            aside: VecDeque::new(),
            last_answer: None,
            period_s: None,
        };
        if state == State::Unconfigured {
            made.unload();
        }
        Ok(made)
    }

    /// What the transport has to carry.
    pub fn interface(&self) -> Interface {
        let names = &self.names;
        // As many clouds as can serve as sweeps of the newest.
        let sweeps = self.perception.detector().config().points.sweeps.count.clamp(1, super::waiting::MAX_WAITING_CLOUDS);
        let cloud = Subscription::new::<PointCloud2>(names.cloud.clone(), self.params.reliability, sweeps);
        let transforms = Subscription::new::<TFMessage>(names.transforms.clone(), Reliability::Auto, KEEP_TRANSFORMS);
        let fixed = Subscription::new::<TFMessage>(names.static_transforms.clone(), Reliability::Reliable, MAX_STATIC);
        let fixed = Subscription { latched: true, ..fixed };
        let odometry = Subscription::new::<Odometry>(names.odometry.clone(), Reliability::Auto, KEEP_TRANSFORMS);
        let clock = Subscription::new::<Clock>(names.clock.clone(), Reliability::BestEffort, 1);
        let clock = self.params.use_sim_time.then_some(clock);
        Interface {
            node: self.node.clone(),
            subscriptions: [cloud, transforms, fixed, odometry].into_iter().chain(clock).collect(),
            publishers: vec![
                Publisher::new::<Detection3DArray>(names.detections.clone()),
                Publisher::new::<MarkerArray>(names.markers.clone()),
                Publisher::new::<DiagnosticArray>(names.diagnostics.clone()),
                Publisher::new::<Float64>(names.processing_ms.clone()),
                Publisher::new::<Float64>(names.latency_ms.clone()),
                Publisher::new::<Float64>(names.cyclic_ms.clone()),
                self.server.publisher(),
                self.lifecycle.publisher(),
            ],
            services: [(&names.load_model, LoadModel::TYPE), (&names.reset, Trigger::TYPE)]
                .map(|(name, type_name)| Service { name: name.clone(), type_name })
                .into_iter()
                .chain(self.server.services())
                .chain(self.lifecycle.services())
                .collect(),
            clients: Vec::new(),
        }
    }

    /// Works until `stop` is set or the transport has no more.
    ///
    /// # Errors
    /// A transport from which nothing can be received.
    pub fn run(&mut self, transport: &mut dyn Transport, stop: &AtomicBool) -> Result<(), TransportError> {
        while !stop.load(Ordering::SeqCst) {
            let is_idle = self.waiting.is_empty() && self.loading.is_none();
            let mut received = self.next(transport, if is_idle { IDLE } else { BUSY })?;
            loop {
                match received {
                    Received::Message(message) => self.take(message),
                    Received::Request(request) => self.serve(request, transport),
                    Received::Nothing | Received::Response(_) => break,
                    Received::End => {
                        self.work(None, transport);
                        self.report(transport);
                        return Ok(());
                    }
                }
                received = self.next(transport, Duration::ZERO)?;
            }
            self.work(Some(transport.now()), transport);
            self.take_over_model(transport);
            if self.health.is_due(self.params.diagnostics_period_s) {
                self.report(transport);
            }
        }
        Ok(())
    }

    /// What was put aside comes first.
    fn next(&mut self, transport: &mut dyn Transport, wait: Duration) -> Result<Received, TransportError> {
        self.aside.pop_front().map_or_else(|| transport.receive(wait), Ok)
    }

    /// Looks for the time among what has come while a frame was worked on; the rest is put aside.
    fn look_at_clock(&mut self, transport: &mut dyn Transport) {
        // An error comes again when the node receives.
        while let Ok(received) = transport.receive(Duration::ZERO) {
            match received {
                Received::Nothing => break,
                Received::Message(message) if *message.topic == *self.names.clock => self.take(message),
                other => self.aside.push_back(other),
            }
        }
    }

    fn take(&mut self, message: RawMessage) {
        let topic = &*message.topic;
        if topic == self.names.cloud {
            self.take_cloud(message);
        } else if topic == self.names.clock && self.params.use_sim_time {
            self.clock = Clock::decode(&message.data).ok().map(|c| c.clock).or(self.clock);
        } else {
            self.perception.on_motion(&message);
            if topic == self.names.static_transforms && self.static_transforms.len() < MAX_STATIC {
                self.static_transforms.push(message);
            }
        }
    }

    fn take_cloud(&mut self, message: RawMessage) {
        self.health.cloud_came();
        if self.lifecycle.state() != State::Active {
            self.health.unwanted += 1;
            return;
        }
        let (arrived, start) = (message.stamp, Instant::now());
        match self.reader.open(self.names.cloud.clone(), message) {
            Ok(frame) => {
                self.reading = start.elapsed();
                let stamp = frame.cloud.stamp;
                if self.last_stamp.is_some_and(|last| last.seconds_since(stamp) > TIME_SET_BACK_S) {
                    tracing::warn!("time was set back; what was known of the motion is forgotten");
                    self.forget();
                }
                self.last_stamp = Some(stamp);
                self.fields = frame.cloud.fields.join(", ");
                self.frame_id.clone_from(&frame.cloud.frame_id);
                self.waiting.push(arrived, Arrived::Cloud(frame));
            }
            Err(unusable) => self.health.skip(unusable.reason),
        }
    }

    /// All but what holds always: another drive begins.
    fn forget(&mut self) {
        self.perception.reset();
        self.static_transforms.iter().for_each(|m| self.perception.on_motion(m));
        self.waiting = Waiting::default();
        self.last_stamp = None;
    }

    /// Detects in the newest cloud that has no reason to wait; `now` is `None` when nothing more will come.
    fn work(&mut self, now: Option<Stamp>, transport: &mut dyn Transport) {
        let mut newest: Option<OpenFrame> = None;
        while let Some(released) = self.waiting.next(now, |frame| self.perception.missing_motion_s(frame)) {
            let Arrived::Cloud(frame) = released.what else { continue };
            self.health.in_vain += u64::from(released.in_vain);
            if let Some(overtaken) = newest.replace(frame) {
                self.health.passed_over += 1;
                self.perception.pass_over(&overtaken);
            }
        }
        if let Some(frame) = newest {
            self.detect(&frame, transport);
        }
    }

    fn detect(&mut self, input: &OpenFrame, transport: &mut dyn Transport) {
        let start = Instant::now();
        // One frame a report: it costs a look at every activation.
        let is_counted = self.health.clipped.is_none();
        self.perception.look_closer(is_counted);
        let frame = match self.perception.on_cloud(input, None) {
            Ok(frame) => frame,
            Err(error) => return self.health.skip(format!("{:#}", anyhow::Error::from(error))),
        };
        if is_counted {
            let detector = self.perception.detector();
            self.health.clipped = Some(detector.clipped());
            self.health.drift = detector.traits().map(|traits| drift(traits, &self.seen)).unwrap_or_default();
        }
        self.note_sweeps(&frame);
        let (stamp, frame_id, boxes) = (frame.cloud.stamp, &frame.cloud.frame_id, &frame.detections.boxes);
        let detections = detection_array(stamp, frame_id, boxes, &self.classes);
        self.publish(transport, &self.names.detections.clone(), &detections);
        let processing = start.elapsed();

        let cyclic_s = self.last_answer.replace(start).map(|last| start.duration_since(last).as_secs_f64());
        self.period_s = cyclic_s.map(|s| self.period_s.map_or(s, |known| 0.8 * known + 0.2 * s)).or(self.period_s);
        let markers = marker_array(stamp, frame_id, boxes, &self.classes, &self.marker_style());
        self.publish(transport, &self.names.markers.clone(), &markers);

        if self.params.use_sim_time {
            self.look_at_clock(transport);
        }
        let latency_s = self.time(transport).seconds_since(stamp);
        let latency_s = Some(latency_s).filter(|s| (0.0..MAX_LATENCY_S).contains(s));
        let ms = |seconds: f64| Float64 { data: seconds * 1e3 };
        self.publish(transport, &self.names.processing_ms.clone(), &ms(processing.as_secs_f64()));
        if let Some(latency_s) = latency_s {
            self.publish(transport, &self.names.latency_ms.clone(), &ms(latency_s));
        }
        if let Some(cyclic_s) = cyclic_s {
            self.publish(transport, &self.names.cyclic_ms.clone(), &ms(cyclic_s));
        }
        let stages = frame.detections.times;
        let detector = stages.voxelize + stages.network + stages.decode;
        let overhead = (self.reading + start.elapsed()).saturating_sub(detector);
        let [processing, overhead] = [processing, overhead].map(|t| t.as_secs_f64() * 1e3);
        self.health.answer(Times { processing, latency: latency_s.map(|s| s * 1e3), overhead });
    }

    fn marker_style(&self) -> MarkerStyle {
        let [least, most] = MARKER_LIFETIME_S;
        let follows = (MARKER_PERIODS * self.period_s.unwrap_or(least)).clamp(least, most);
        let lifetime_s = if self.params.marker_lifetime_follows { follows } else { self.params.markers.lifetime_s };
        MarkerStyle { lifetime_s, ..self.params.markers }
    }

    fn note_sweeps(&mut self, frame: &Frame) {
        if let Some(reason) = frame.sweeps.left_out.first() {
            self.health.fewer_sweeps += 1;
            self.health.last_left_out = Some(match reason {
                LeftOut::NoMotion { reason, .. } => format!("sweeps left out: {reason}"),
                LeftOut::NoField { field, .. } => format!("sweeps left out: they have no field `{field}`"),
            });
        }
    }

    fn publish<M: RosMessage>(&mut self, transport: &mut dyn Transport, topic: &str, message: &M) {
        let now = self.time(transport);
        if let Err(error) = transport.publish(topic, now, message) {
            self.health.unsent(error.to_string());
        }
    }

    /// The graph's time: simulated, if it is so wanted and known.
    fn time(&self, transport: &dyn Transport) -> Stamp {
        self.clock.unwrap_or_else(|| transport.now())
    }

    fn serve(&mut self, request: Request, transport: &mut dyn Transport) {
        if *request.service == *self.names.reset {
            self.forget();
            let response = TriggerResponse { success: true, message: "sweeps and motion are gathered anew".into() };
            self.answer::<Trigger>(transport, &request.service, request.id, &response);
        } else if *request.service == *self.names.load_model {
            self.serve_load_model(&request, transport);
        } else {
            self.serve_lifecycle(&request, transport);
            self.serve_parameters(&request, transport);
        }
    }

    /// Sends an answer, or counts that it could not be sent.
    fn answer<S: RosService>(&mut self, transport: &mut dyn Transport, service: &str, to: RequestId, response: &S::Response) {
        if let Err(error) = transport.reply(service, to, &S::encode_response(response)) {
            self.health.unsent(error.to_string());
        }
    }

    fn report(&mut self, transport: &mut dyn Transport) {
        let topic = &self.names.cloud;
        let unknown = SubscriptionStatus { topic: topic.clone(), ..SubscriptionStatus::default() };
        let input = transport.subscriptions().into_iter().find(|s| s.topic == *topic).unwrap_or(unknown);
        let motion = self.perception.motion();
        let source = match self.last_stamp.map(|stamp| motion.source(&self.frame_id, stamp)) {
            Some(MotionSource::Transforms(fixed)) => format!("transforms through {fixed}"),
            Some(MotionSource::Odometry { body, .. }) => format!("odometry of {body}"),
            Some(MotionSource::None) => "none known".to_owned(),
            None => String::new(),
        };
        let facts = Facts {
            node: &self.node.to_string(),
            now: self.time(transport),
            state: self.lifecycle.label(),
            is_active: self.lifecycle.state() == State::Active,
            model: self.model_facts.clone(),
            input,
            fields: &self.fields,
            motion: vec![("source", source)],
            bad_motion: motion.bad_messages(),
            max_processing_ms: self.params.max_processing_ms,
        };
        let report = self.health.report(facts);
        self.publish(transport, &self.names.diagnostics.clone(), &report);
    }
}
