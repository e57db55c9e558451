//! Tensors as `torch.save` describes them: a view, with offset and strides, of a storage.

use super::pickle::{Pickle, Value, ValueId};
use half::{bf16, f16};
use ndarray::ArrayD;

/// More axes than any network's tensor.
const MAX_AXES: usize = 16;
/// How deep parameters and tensor subclasses may be wrapped around a tensor.
const MAX_WRAPPERS: usize = 8;

/// Element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DType {
    F16,
    Bf16,
    F32,
    F64,
    /// Name and bytes an element.
    Integer(&'static str, usize),
}

/// What a persistent id says of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StorageRef {
    pub key: String,
    pub dtype: DType,
    /// Elements.
    pub count: usize,
    /// Where a view of another storage starts in it, elements (old format only).
    pub offset: usize,
}

/// A strided view; lengths in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorRef {
    pub storage: StorageRef,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl DType {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "LongStorage" => Self::Integer("i64", 8),
            "IntStorage" => Self::Integer("i32", 4),
            "ShortStorage" => Self::Integer("i16", 2),
            "CharStorage" => Self::Integer("i8", 1),
            "ByteStorage" => Self::Integer("u8", 1),
            "BoolStorage" => Self::Integer("bool", 1),
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Integer(_, bytes) => bytes,
        }
    }
}

impl StorageRef {
    /// From `('storage', class, key, device, elements)`, in the old format followed by `None` or `(view key, offset, elements)`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn parse(pickle: &Pickle<'_>, id: ValueId) -> Result<Self, String> {
        let wrong = || "its storage is described in an unknown way".to_owned();
        let (&[kind, class, key, _device, count], view) =
            pickle.sequence(id).and_then(|items| items.split_first_chunk()).ok_or_else(wrong)?;
        if pickle.text(kind) != Some("storage") {
            return Err(wrong());
        }
        let class = pickle.global(class).filter(|g| g.module.split('.').next() == Some("torch")).ok_or_else(wrong)?;
        let dtype = DType::of_storage(&class.name).ok_or_else(|| format!("its element type ({}) is not supported", class.name))?;
        let offset = match view.first().and_then(|&view| pickle.sequence(view)) {
            Some(&[_, offset, _]) => pickle.size(offset).ok_or_else(wrong)?,
            _ => 0,
        };
        let key = pickle.text(key).ok_or_else(wrong)?.to_owned();
        Ok(Self { key, dtype, count: pickle.size(count).ok_or_else(wrong)?, offset })
    }
}

impl TensorRef {
    /// The tensor that a value describes; `None` if it is no tensor.
    ///
    /// # Errors
    /// A tensor of a kind that is not supported, in words.
    pub(super) fn parse(pickle: &Pickle<'_>, mut id: ValueId) -> Result<Option<Self>, String> {
        for _ in 0..MAX_WRAPPERS {
            let Value::Call { mut callee, mut args } = *pickle.get(id) else {
                return Ok(None);
            };
            // A tensor subclass: (function, class, arguments, state).
            if pickle.global(callee).is_some_and(|g| g.name == "_rebuild_from_type_v2")
                && let Some(&[function, _, inner, _]) = pickle.sequence(args)
            {
                (callee, args) = (function, inner);
            }
            let Some(global) = pickle.global(callee).filter(|g| g.module == "torch._utils") else {
                return Ok(None);
            };
            let args = pickle.sequence(args).unwrap_or_default();
            match (global.name.as_str(), args) {
                ("_rebuild_tensor" | "_rebuild_tensor_v2", &[storage, offset, shape, strides, ..]) => {
                    return Self::view(pickle, [storage, offset, shape, strides]).map(Some);
                }
                ("_rebuild_parameter" | "_rebuild_parameter_with_state", &[tensor, ..]) => id = tensor,
                (other, _) => return Err(format!("tensors made by `torch._utils.{other}` (sparse, quantized, ...) are not supported")),
            }
        }
        Err("it is wrapped too often".into())
    }

    fn view(pickle: &Pickle<'_>, [storage, offset, shape, strides]: [ValueId; 4]) -> Result<Self, String> {
        let Value::Persistent(id) = *pickle.get(storage) else {
            return Err("it has no storage".into());
        };
        let sizes = |id: ValueId| -> Option<Vec<usize>> {
            // torch.Size is a call of the class with a tuple.
            let id = match *pickle.get(id) {
                Value::Call { args, .. } => *pickle.sequence(args)?.first()?,
                _ => id,
            };
            let items = pickle.sequence(id).filter(|items| items.len() <= MAX_AXES)?;
            items.iter().map(|&n| pickle.size(n)).collect()
        };
        let wrong = || "its shape is described in an unknown way".to_owned();
        let (shape, strides) =
            sizes(shape).zip(sizes(strides)).filter(|(shape, strides)| shape.len() == strides.len()).ok_or_else(wrong)?;
        let storage = StorageRef::parse(pickle, id)?;
        let offset = pickle.size(offset).and_then(|offset| offset.checked_add(storage.offset)).ok_or_else(wrong)?;
        Ok(Self { storage, offset, shape, strides })
    }

    /// Elements, or `None` if their number overflows.
    pub(super) fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// The values as f32, row-major, from the bytes of the storage; `None` for integers.
    ///
    /// # Errors
    /// A view that reaches beyond its storage, in words.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Option<ArrayD<f32>>, String> {
        let size = self.storage.dtype.bytes();
        let beyond =
            || format!("shape {:?} with strides {:?} reaches beyond its storage of {} bytes", self.shape, self.strides, bytes.len());
        let len = self.len().ok_or_else(beyond)?;
        if len > 0 {
            let reach = |(&d, &s): (&usize, &usize)| (d - 1).checked_mul(s);
            let last =
                self.shape.iter().zip(&self.strides).try_fold(self.offset, |at, axis| at.checked_add(reach(axis)?)).ok_or_else(beyond)?;
            if last >= bytes.len() / size {
                return Err(beyond());
            }
        }
        let values = match self.storage.dtype {
            DType::F16 => self.gather(bytes, |b| f16::from_le_bytes(b).to_f32()),
            DType::Bf16 => self.gather(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F32 => self.gather(bytes, f32::from_le_bytes),
            DType::F64 => self.gather(bytes, |b| f64::from_le_bytes(b) as f32),
            DType::Integer(..) => return Ok(None),
        };
        ArrayD::from_shape_vec(self.shape.clone(), values).map(Some).map_err(|error| error.to_string())
    }

    /// Elements in row-major order. The caller has checked that all lie within `bytes`.
    fn gather<const N: usize>(&self, bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let elements = bytes.as_chunks::<N>().0;
        let len = self.shape.iter().product();
        if len == 0 {
            return Vec::new();
        }
        if self.is_contiguous() {
            return elements.iter().skip(self.offset).take(len).map(|&b| convert(b)).collect();
        }
        let mut values = Vec::with_capacity(len);
        let mut position = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..len {
            values.push(convert(elements[at]));
            // Next position, like an odometer. An axis of one element may have any stride: what is added wraps and is taken
            // back.
            for axis in (0..position.len()).rev() {
                position[axis] += 1;
                at = at.wrapping_add(self.strides[axis]);
                if position[axis] < self.shape[axis] {
                    break;
                }
                at = at.wrapping_sub(self.strides[axis].wrapping_mul(position[axis]));
                position[axis] = 0;
            }
        }
        values
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&d, &s)| {
            let fits = d <= 1 || s == expected;
            expected *= d;
            fits
        })
    }
}
