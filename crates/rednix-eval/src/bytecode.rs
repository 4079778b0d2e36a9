//! What expressions are compiled to: instructions of eight bytes for a stack machine, and the tables they name.
//!
//! Jumps are relative to the instruction after them. "Forces" means that the value on top of the stack is
//! computed; an instruction that has to wait is simply run again afterwards, so it must leave the stack as it
//! was until it can finish.

use crate::source::{Pos, Range};
use crate::value::{Address, BuiltinId, LambdaId, Value};
use rednix_syntax::Symbol;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Pushes constant `n`.
    Constant(u32),
    Int(i32),
    /// Pushes a variable as it is, computed or not.
    Local {
        depth: u16,
        slot: u32,
    },
    /// Pushes a variable and forces it.
    LocalForced {
        depth: u16,
        slot: u32,
    },
    /// Pushes a new thunk for the code at this address.
    Thunk(Address),
    Lambda(LambdaId),
    /// Forces the top of the stack.
    Force,
    Pop,
    /// Pops two operands: where both are computed integers and the result is one, pushes it, else pushes a
    /// thunk for the code that does it properly. Nothing can go wrong here, so it may be done early.
    Speculate {
        operator: Arithmetic,
        code: Address,
    },
    /// Enters a new environment of that many slots.
    NewEnv(u32),
    /// Leaves it.
    LeaveEnv,
    /// Pops into a slot of the current environment.
    SetSlot(u32),
    /// Looks a name up in the enclosing `with`s of this site, and forces it.
    WithForced(u32),
    /// Pops a set, pushes its attribute, forced.
    Select(Symbol),
    /// Pops a name and a set.
    SelectDynamic,
    /// As `Select`, but jumps with the value dropped when the attribute is not there (select site `n`).
    SelectOr(u32),
    /// Stack: set, name.
    SelectOrDynamic(i32),
    /// Replaces a value by whether it is a set with that attribute.
    Has(Symbol),
    HasDynamic,
    /// A set out of the values of shape `n` on the stack.
    MakeAttrs(u32),
    /// The same, followed on the stack by pairs of name and value (dynamic site `n`).
    MakeAttrsDynamic(u32),
    /// Replaces what `__overrides` (on top of the set) overrides, also in the environment (shape `n`).
    ApplyOverrides(u32),
    MakeList(u32),
    /// Calls the function below that many arguments.
    Call(u32),
    /// Calls a builtin with all its arguments.
    CallBuiltin(BuiltinId),
    Jump(i32),
    /// Pops a Boolean.
    JumpIfFalse(i32),
    /// `&&`: jumps with false, else pops.
    AndJump(i32),
    /// `||`: jumps with true, else pops.
    OrJump(i32),
    /// `->`: jumps with true if false, else pops.
    ImpliesJump(i32),
    /// The top must be a Boolean; the number says which operand it is.
    CheckBool(BoolPlace),
    /// Pops a Boolean; if true, jumps over the code that reports the assertion.
    AssertJump(i32),
    /// Reports a failed assertion (assert site `n`).
    AssertFailed(u32),
    /// Explains why the two values on the stack are not equal (assert site `n`).
    AssertUnequal(u32),
    Not,
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Concat,
    Update,
    /// Turns the top into a string, as an interpolation does; a path is copied to the store.
    Coerce,
    /// Joins that many strings.
    ConcatText(u32),
    /// Joins a path and strings to a path.
    ConcatPath(u32),
    /// A part of a path: not copied to the store.
    CoercePathPart,
    Return,
    /// As `Return` of a function: its environment is used again where nothing captured it.
    ReturnFree,
    /// Ends a run started from outside.
    Stop,
}

const _: () = assert!(std::mem::size_of::<Op>() == 8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}

/// Which operand a Boolean is, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoolPlace {
    And,
    Or,
    Implies,
}

/// Names and positions of a set's static attributes, sorted by symbol: the order of values on the stack.
pub(crate) struct Shape {
    pub names: Vec<(Symbol, Pos)>,
    pub pos: Pos,
    /// For recursive sets with overrides: the slot of each name.
    pub slots: Vec<u32>,
}

pub(crate) struct DynamicSite {
    /// Position of each dynamic binding.
    pub positions: Vec<Pos>,
}

pub(crate) struct WithSite {
    pub name: Symbol,
    /// Where the sets are, innermost first.
    pub scopes: Vec<(u16, u32)>,
}

pub(crate) struct SelectSite {
    pub name: Symbol,
    pub jump: i32,
}

pub(crate) struct AssertSite {
    /// The condition as `--parse` prints it.
    pub condition: String,
    pub range: Range,
}

#[derive(Clone, Copy)]
pub(crate) enum DefaultValue {
    Code(Address),
    Constant(Value),
}

pub(crate) struct FormalInfo {
    pub name: Symbol,
    pub slot: u32,
    pub default: Option<DefaultValue>,
    pub pos: Pos,
}

pub(crate) struct FormalsInfo {
    /// Sorted by symbol.
    pub formals: Vec<FormalInfo>,
    pub ellipsis: bool,
}

pub(crate) struct LambdaInfo {
    pub entry: Address,
    /// Plain arguments taken at once; with formals always one.
    pub arity: u32,
    pub slots: u32,
    pub formals: Option<FormalsInfo>,
    /// With formals: the slot that gets the whole argument, if it has a name.
    pub argument: Option<u32>,
    pub name: Option<Symbol>,
    pub range: Range,
    /// Names of the plain arguments, or of the whole argument beside formals.
    pub parameters: Vec<Symbol>,
    /// Positions of the functions inside that were fused into this one, outermost first.
    pub inner: Vec<Pos>,
}

impl LambdaInfo {
    /// Whether a call with that many arguments needs nothing but an environment for them.
    #[inline(always)]
    pub fn takes_plainly(&self, count: usize) -> bool {
        self.arity as usize == count && self.formals.is_none()
    }
}

/// All code of one evaluation. Grows with each file that is imported.
#[derive(Default)]
pub(crate) struct Program {
    pub code: Vec<Op>,
    pub ranges: Vec<Range>,
    pub constants: Vec<Value>,
    pub shapes: Vec<Shape>,
    pub dynamic_sites: Vec<DynamicSite>,
    pub with_sites: Vec<WithSite>,
    pub select_sites: Vec<SelectSite>,
    pub assert_sites: Vec<AssertSite>,
    pub lambdas: Vec<LambdaInfo>,
    /// Code that computes a binding, by where it begins; for messages.
    pub named: Vec<NamedCode>,
}

/// The code of one binding's value, without that of the thunks and functions in it.
pub(crate) struct NamedCode {
    pub start: Address,
    pub end: Address,
    pub name: Symbol,
    pub range: Range,
}

/// Addresses of code every program begins with.
pub(crate) mod stub {
    use super::Address;

    /// Stops the run.
    pub const STOP: Address = 0;
    /// `CALL + n`: calls the function below `n` arguments and returns its result.
    pub const CALL: Address = 1;
}

impl Program {
    pub fn new() -> Program {
        let mut program = Program::default();
        program.code.push(Op::Stop);
        for count in 0..=4 {
            program.code.push(Op::Call(count));
            program.code.push(Op::Return);
        }
        program.ranges.resize(program.code.len(), Range::default());
        program
    }

    /// The binding whose value is computed by the instruction before `ip`.
    pub fn binding_at(&self, ip: Address) -> Option<&NamedCode> {
        let address = ip.checked_sub(1)?;
        let index = self.named.partition_point(|code| code.start <= address).checked_sub(1)?;
        Some(&self.named[index]).filter(|code| address < code.end)
    }

    /// The code that calls with that many arguments.
    pub fn call_stub(count: u32) -> Address {
        debug_assert!(count <= 4);
        stub::CALL + 2 * count
    }
}
