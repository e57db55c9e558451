//! The services by which a node's parameters are read and set from outside (`ros2 param`, rqt), over any transport.

use super::declarations::{Change, Declaration, DeclaredParameters, Kind};
use super::interface::{Publisher, Service};
use super::msg::RosService;
use super::msg::rcl_interfaces as wire;
use super::msg::rcl_interfaces::{
    DescribeParameters, GetParameterTypes, GetParameters, ListParameters, SetParameters, SetParametersAtomically,
};
use super::names::{NameError, NodeName};
use super::parameters::ParameterValue;
use super::transport::{Request, Transport, TransportError};
use crate::sensor::Stamp;
use std::collections::BTreeSet;

/// Where changes are told of.
const EVENTS: &str = "/parameter_events";
/// `ListParameters`' depth that means any.
const ANY_DEPTH: u64 = 0;

/// Whose parameters they are.
pub trait ParameterOwner {
    fn parameters(&self) -> &DeclaredParameters;

    /// Valid parameters take the place of the present ones, and hold from now on.
    ///
    /// # Errors
    /// Why they cannot, such as parameters that do not fit each other; nothing has changed then.
    fn take_over(&mut self, parameters: DeclaredParameters) -> Result<(), String>;
}

/// The names of a node's parameter services.
#[derive(Clone, Debug)]
pub struct ParameterServer {
    node: String,
    describe: String,
    types: String,
    get: String,
    list: String,
    set: String,
    set_atomically: String,
    events: String,
}

impl ParameterServer {
    /// # Errors
    /// A rule of `remaps` with a name that ROS does not allow.
    pub fn new(node: &NodeName, remaps: &[(String, String)]) -> Result<Self, NameError> {
        let name = |name: &str| node.resolve_remapped(name, remaps);
        Ok(Self {
            node: node.to_string(),
            describe: name("~/describe_parameters")?,
            types: name("~/get_parameter_types")?,
            get: name("~/get_parameters")?,
            list: name("~/list_parameters")?,
            set: name("~/set_parameters")?,
            set_atomically: name("~/set_parameters_atomically")?,
            events: name(EVENTS)?,
        })
    }

    pub fn services(&self) -> Vec<Service> {
        vec![
            Service { name: self.describe.clone(), type_name: DescribeParameters::TYPE },
            Service { name: self.types.clone(), type_name: GetParameterTypes::TYPE },
            Service { name: self.get.clone(), type_name: GetParameters::TYPE },
            Service { name: self.list.clone(), type_name: ListParameters::TYPE },
            Service { name: self.set.clone(), type_name: SetParameters::TYPE },
            Service { name: self.set_atomically.clone(), type_name: SetParametersAtomically::TYPE },
        ]
    }

    pub fn publisher(&self) -> Publisher {
        Publisher::new::<wire::ParameterEvent>(self.events.clone())
    }

    /// Answers a request, if it is for one of these services, and tells all of what has changed.
    ///
    /// # Errors
    /// What could not be sent. A request that is no valid CDR has no answer.
    pub fn serve(
        &self,
        request: &Request,
        owner: &mut dyn ParameterOwner,
        transport: &mut dyn Transport,
        now: Stamp,
    ) -> Result<(), TransportError> {
        let Some((answer, changed)) = self.answer(request, owner) else { return Ok(()) };
        transport.reply(&request.service, request.id, &answer)?;
        self.tell(changed, owner.parameters(), transport, now)
    }

    /// Tells all of parameters that have changed.
    ///
    /// # Errors
    /// A message that could not be sent.
    pub fn tell(
        &self,
        changed: BTreeSet<String>,
        parameters: &DeclaredParameters,
        transport: &mut dyn Transport,
        now: Stamp,
    ) -> Result<(), TransportError> {
        if changed.is_empty() {
            return Ok(());
        }
        let parameter = |name: String| wire::Parameter { value: to_wire(parameters.get(&name)), name };
        let changed_parameters = changed.into_iter().map(parameter).collect();
        let event = wire::ParameterEvent { stamp: now, node: self.node.clone(), changed_parameters, ..wire::ParameterEvent::default() };
        transport.publish(&self.events, now, &event)
    }

    /// The answer, and the names of parameters that were set.
    fn answer(&self, request: &Request, owner: &mut dyn ParameterOwner) -> Option<(Vec<u8>, BTreeSet<String>)> {
        let (service, data) = (&*request.service, &request.data);
        let parameters = owner.parameters();
        let answer = if service == self.get {
            let asked = GetParameters::decode_request(data).ok()?;
            let values = asked.names.iter().map(|name| to_wire(parameters.get(name))).collect();
            GetParameters::encode_response(&wire::Values { values })
        } else if service == self.types {
            let asked = GetParameterTypes::decode_request(data).ok()?;
            let types = asked.names.iter().map(|name| to_wire(parameters.get(name)).kind).collect();
            GetParameterTypes::encode_response(&wire::Types { types })
        } else if service == self.describe {
            let asked = DescribeParameters::decode_request(data).ok()?;
            let describe = |name: &String| match parameters.declaration(name) {
                Some(declaration) => descriptor(declaration),
                None => wire::ParameterDescriptor { name: name.clone(), ..wire::ParameterDescriptor::default() },
            };
            DescribeParameters::encode_response(&wire::Descriptors { descriptors: asked.names.iter().map(describe).collect() })
        } else if service == self.list {
            ListParameters::encode_response(&list(parameters, &ListParameters::decode_request(data).ok()?))
        } else if service == self.set {
            let asked = SetParameters::decode_request(data).ok()?;
            let mut changed = BTreeSet::new();
            let results = asked.parameters.into_iter().map(|p| set(owner, vec![p], &mut changed)).collect();
            return Some((SetParameters::encode_response(&wire::SetResults { results }), changed));
        } else if service == self.set_atomically {
            let asked = SetParametersAtomically::decode_request(data).ok()?;
            let mut changed = BTreeSet::new();
            let result = set(owner, asked.parameters, &mut changed);
            return Some((SetParametersAtomically::encode_response(&wire::SetResult { result }), changed));
        } else {
            return None;
        };
        Some((answer, BTreeSet::new()))
    }
}

/// All of them, or none.
fn set(owner: &mut dyn ParameterOwner, wanted: Vec<wire::Parameter>, changed: &mut BTreeSet<String>) -> wire::SetParametersResult {
    let changes: Vec<_> = wanted.into_iter().map(|p| (p.name, from_wire(p.value))).collect();
    let done = owner.parameters().changed(&changes).and_then(|parameters| owner.take_over(parameters));
    match done {
        Ok(()) => {
            changed.extend(changes.into_iter().map(|(name, _)| name));
            wire::SetParametersResult { successful: true, reason: String::new() }
        }
        Err(reason) => {
            tracing::warn!(reason, "a parameter was not set");
            wire::SetParametersResult { successful: false, reason }
        }
    }
}

/// As rclcpp's `list_parameters`: parameters in the groups that are asked for, and the groups they stand in.
fn list(parameters: &DeclaredParameters, asked: &wire::ListRequest) -> wire::ListResult {
    let is_wanted = |name: &str| {
        // Dots that a name may have behind its group.
        let is_near = |rest: &str| asked.depth == ANY_DEPTH || (rest.matches('.').count() as u64) < asked.depth;
        let below = |group: &String| name == group || name.strip_prefix(&format!("{group}.")).is_some_and(is_near);
        if asked.prefixes.is_empty() { is_near(name) } else { asked.prefixes.iter().any(below) }
    };
    let names = parameters.declarations().map(|d| d.name).filter(|name| is_wanted(name));
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    let prefixes: BTreeSet<String> = names.iter().filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned())).collect();
    wire::ListResult { names: names.into_iter().collect(), prefixes: prefixes.into_iter().collect() }
}

fn descriptor(declaration: &Declaration) -> wire::ParameterDescriptor {
    let (mut floating_point_range, mut integer_range) = (Vec::new(), Vec::new());
    let kind = match declaration.kind {
        Kind::Flag { .. } => wire::ParameterValue::BOOL,
        Kind::Integer { least, most, .. } => {
            integer_range.push(wire::IntegerRange { from_value: least, to_value: most, step: 0 });
            wire::ParameterValue::INTEGER
        }
        Kind::Number { least, most, .. } => {
            floating_point_range.push(wire::FloatingPointRange { from_value: least, to_value: most, step: 0.0 });
            wire::ParameterValue::DOUBLE
        }
        Kind::Text | Kind::Choice { .. } => wire::ParameterValue::STRING,
        Kind::Texts { .. } => wire::ParameterValue::STRING_ARRAY,
    };
    let additional_constraints = match (&declaration.kind, declaration.change) {
        (_, Change::AtStart(reason)) => format!("set at start: {reason}"),
        (Kind::Choice { .. } | Kind::Texts { .. }, Change::Live) => declaration.kind.expected(),
        _ => String::new(),
    };
    wire::ParameterDescriptor {
        name: declaration.name.to_owned(),
        kind,
        description: declaration.description.to_owned(),
        additional_constraints,
        read_only: declaration.change != Change::Live,
        dynamic_typing: false,
        floating_point_range,
        integer_range,
    }
}

/// A parameter that is not set has a type of its own.
fn to_wire(value: Option<&ParameterValue>) -> wire::ParameterValue {
    let unset = wire::ParameterValue::default();
    match value {
        Some(ParameterValue::Bool(v)) => wire::ParameterValue { kind: wire::ParameterValue::BOOL, bool_value: *v, ..unset },
        Some(ParameterValue::Integer(v)) => wire::ParameterValue { kind: wire::ParameterValue::INTEGER, integer_value: *v, ..unset },
        Some(ParameterValue::Double(v)) => wire::ParameterValue { kind: wire::ParameterValue::DOUBLE, double_value: *v, ..unset },
        Some(ParameterValue::String(v)) => wire::ParameterValue { kind: wire::ParameterValue::STRING, string_value: v.clone(), ..unset },
        Some(ParameterValue::StringArray(v)) => {
            wire::ParameterValue { kind: wire::ParameterValue::STRING_ARRAY, string_array_value: v.clone(), ..unset }
        }
        Some(ParameterValue::Other(_)) | None => unset,
    }
}

/// `None` takes a parameter away. An empty array may have the type of any: who writes `[]` cannot say of what.
fn from_wire(value: wire::ParameterValue) -> Option<ParameterValue> {
    let is_empty = match value.kind {
        wire::ParameterValue::BYTE_ARRAY => value.byte_array_value.is_empty(),
        wire::ParameterValue::BOOL_ARRAY => value.bool_array_value.is_empty(),
        wire::ParameterValue::INTEGER_ARRAY => value.integer_array_value.is_empty(),
        wire::ParameterValue::DOUBLE_ARRAY => value.double_array_value.is_empty(),
        _ => false,
    };
    Some(match value.kind {
        wire::ParameterValue::NOT_SET => return None,
        wire::ParameterValue::BOOL => ParameterValue::Bool(value.bool_value),
        wire::ParameterValue::INTEGER => ParameterValue::Integer(value.integer_value),
        wire::ParameterValue::DOUBLE => ParameterValue::Double(value.double_value),
        wire::ParameterValue::STRING => ParameterValue::String(value.string_value),
        wire::ParameterValue::STRING_ARRAY => ParameterValue::StringArray(value.string_array_value),
        _ if is_empty => ParameterValue::StringArray(Vec::new()),
        wire::ParameterValue::BYTE_ARRAY => ParameterValue::Other("an array of bytes".into()),
        wire::ParameterValue::BOOL_ARRAY => ParameterValue::Other("an array of bools".into()),
        wire::ParameterValue::INTEGER_ARRAY => ParameterValue::Other("an array of integers".into()),
        wire::ParameterValue::DOUBLE_ARRAY => ParameterValue::Other("an array of doubles".into()),
        other => ParameterValue::Other(format!("of the unknown type {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros::declarations::tests::declared;

    fn listed(prefixes: &[&str], depth: u64) -> (Vec<String>, Vec<String>) {
        let asked = wire::ListRequest { prefixes: prefixes.iter().map(|p| (*p).to_owned()).collect(), depth };
        let listed = list(&declared(), &asked);
        (listed.names, listed.prefixes)
    }

    #[test]
    fn lists_go_as_deep_as_asked() {
        let all = ["group.deep.count", "group.path", "group.scale", "threshold"].map(str::to_owned);
        assert_eq!(listed(&[], 0), (all.to_vec(), vec!["group".into(), "group.deep".into()]));
        assert_eq!(listed(&[], 1), (vec!["threshold".into()], vec![]));
        assert_eq!(listed(&["group"], 1), (vec!["group.path".into(), "group.scale".into()], vec!["group".into()]));
        assert_eq!(listed(&["group"], 0).0.len(), 3);
        assert_eq!(listed(&["gro", "threshold"], 0).0, ["threshold"]);
    }

    #[test]
    fn an_empty_array_is_one_of_texts_and_nothing_takes_away() {
        let of = |kind| wire::ParameterValue { kind, ..wire::ParameterValue::default() };
        assert_eq!(from_wire(of(wire::ParameterValue::BOOL_ARRAY)), Some(ParameterValue::StringArray(vec![])));
        assert_eq!(from_wire(of(wire::ParameterValue::NOT_SET)), None);
        assert!(matches!(from_wire(of(77)), Some(ParameterValue::Other(_))));
    }

    #[test]
    fn values_and_bounds_survive_the_way_out_and_in() {
        let parameters = declared();
        for name in ["threshold", "group.path", "group.deep.count"] {
            let value = parameters.get(name);
            assert_eq!(from_wire(to_wire(value)).as_ref(), value);
        }
        let described = descriptor(parameters.declaration("group.path").unwrap());
        assert!(described.read_only && described.additional_constraints.contains("start the node anew"));
        let range = &descriptor(parameters.declaration("threshold").unwrap()).floating_point_range[0];
        assert_eq!((range.from_value, range.to_value), (0.0, 1.0));
    }
}
